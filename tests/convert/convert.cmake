mlxr_test(test_convert SOURCES test_convert.c ROOMS convert)
mlxr_test(test_adapter SOURCES test_adapter.c ROOMS convert)
if(NOT APPLE) # --wrap is GNU ld's and lld's
  mlxr_test(test_convert_nomem SOURCES test_convert_nomem.c ROOMS convert)
  target_link_options(test_convert_nomem PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
endif()
if(TARGET mlxctl)
  add_test(NAME test_quantize COMMAND bash "${CMAKE_CURRENT_SOURCE_DIR}/test_quantize.sh" "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}"
                                      "${PROJECT_SOURCE_DIR}" "${MLXR_SHARED_CASES}")
  set_tests_properties(test_quantize PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77)
endif()
