# Requests, and pulls from a hub: a server on loopback that speaks its protocol, and misbehaves in every way that was thought of.
mlxr_test(test_http SOURCES test_http.c ROOMS store LABELS store)
if(NOT APPLE) # GNU ld's --wrap
  mlxr_test(test_hub_list SOURCES test_hub_list.c ROOMS store LABELS store)
  target_link_options(test_hub_list PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
endif()

find_package(Python3 COMPONENTS Interpreter)
add_executable(pull_child pull_child.c)
set_target_properties(pull_child PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
mlxr_flags(pull_child)
mlxr_link_rooms(pull_child store)
if(Python3_FOUND)
  add_test(NAME test_pull COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/test_pull.py"
           "$<TARGET_FILE:pull_child>")
  set_tests_properties(test_pull PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77 LABELS store)
endif()
