# Push to and pull from OCI registries: docker-registry on loopback where it is installed, and a server that misbehaves.
# --wrap is GNU ld's and lld's.
if(NOT APPLE)
  mlxr_test(test_registry_parts SOURCES test_registry_parts.c ROOMS store LABELS store)
  target_link_options(test_registry_parts PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
endif()

find_package(Python3 COMPONENTS Interpreter)
add_executable(registry_child registry_child.c)
set_target_properties(registry_child PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
mlxr_flags(registry_child)
mlxr_link_rooms(registry_child store)
if(Python3_FOUND)
  add_test(NAME test_registry COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/test_registry.py"
           "$<TARGET_FILE:registry_child>")
  set_tests_properties(test_registry PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77 LABELS store)
endif()
