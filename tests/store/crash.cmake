find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  foreach(part kill real fault full denied clock together)
    add_test(NAME test_crash_${part} COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/test_crash.py"
                                            "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}" "${PROJECT_SOURCE_DIR}" --part ${part})
    set_tests_properties(test_crash_${part} PROPERTIES TIMEOUT 600)
  endforeach()
endif()
