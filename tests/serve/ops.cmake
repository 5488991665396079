# Settings, life, log and metrics of mlxserve; packaging.
find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  foreach(name test_ops test_packaging)
    add_test(NAME ${name} COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/${name}.py" "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}"
                                  "${PROJECT_SOURCE_DIR}")
    set_tests_properties(${name} PROPERTIES TIMEOUT 600)
  endforeach()
endif()
