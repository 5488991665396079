find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  add_test(NAME test_serve_faults COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/test_faults.py" "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}"
                                          "${PROJECT_SOURCE_DIR}")
  set_tests_properties(test_serve_faults PROPERTIES TIMEOUT 600)
  # A few hundred requests here; `soak.py BIN_DIR --requests 10000` with a build under ASan or TSan takes minutes.
  add_test(NAME test_serve_soak COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/soak.py" "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}"
                                        "${PROJECT_SOURCE_DIR}" --requests 600)
  set_tests_properties(test_serve_soak PROPERTIES TIMEOUT 600)
endif()
