# The official clients against mlxserve. Not under a sanitizer: some hundred answers of the default model take minutes there, and the C tests of the
# same endpoints run under each.
find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND AND NOT MLXR_SANITIZE)
  set(clients "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/clients/run.py" "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}" "${PROJECT_SOURCE_DIR}")
  add_test(NAME test_serve_clients COMMAND ${clients})
  add_test(NAME test_serve_clients_docs COMMAND ${clients} --docs)
  set_tests_properties(test_serve_clients test_serve_clients_docs PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77)
endif()
