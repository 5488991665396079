mlxr_test(test_openai SOURCES test_openai.c ROOMS serve)
# The main cases on the default model, when it is there; under a sanitizer the tiny one has shown what there is to be found.
if(NOT MLXR_SANITIZE)
  add_test(NAME test_openai_default_model
           COMMAND test_openai "${PROJECT_SOURCE_DIR}/models/SmolLM2-135M-Instruct-4bit")
  set_tests_properties(test_openai_default_model PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
endif()
