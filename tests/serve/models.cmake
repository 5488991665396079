mlxr_test(test_models_faults SOURCES test_models.c ROOMS serve)
# Ollama's API about models against mlxserve, with a hub and a registry on loopback.
if(Python3_FOUND OR NOT DEFINED Python3_FOUND)
  find_package(Python3 COMPONENTS Interpreter)
endif()
if(Python3_FOUND)
  add_test(NAME test_serve_models COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/test_models.py"
           "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}" "${PROJECT_SOURCE_DIR}")
  set_tests_properties(test_serve_models PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77)
endif()
