mlxr_test(test_serve_anthropic SOURCES test_anthropic.c ROOMS serve)

# Receipts taken from a busy daemon, made again by mlxctl replay.
if(NOT DEFINED Python3_FOUND)
  find_package(Python3 COMPONENTS Interpreter)
endif()
if(Python3_FOUND)
  add_test(NAME test_serve_receipts COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/test_receipts.py"
           "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}" "${PROJECT_SOURCE_DIR}")
  set_tests_properties(test_serve_receipts PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77)
endif()
