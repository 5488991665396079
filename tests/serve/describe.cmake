mlxr_test(test_fields SOURCES test_fields.c ROOMS serve LABELS serve)
mlxr_test(test_describe_api SOURCES test_describe_api.c ROOMS serve LABELS serve)

# docs/api.md has tables made of those in the code: the test compares, the target api-tables makes them anew.
mlxr_test(api_tables SOURCES api_tables.c ROOMS serve ARGS "${PROJECT_SOURCE_DIR}/docs/api.md" LABELS serve)
add_custom_target(api-tables COMMAND api_tables --write "${PROJECT_SOURCE_DIR}/docs/api.md" VERBATIM)

# The environment of the tools lies in the build folder; SKIP when it cannot be made.
add_test(NAME serve_schemathesis
         COMMAND python3 "${CMAKE_CURRENT_SOURCE_DIR}/test_schemathesis.py" "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}"
                 "${CMAKE_BINARY_DIR}/tests/venv-schemathesis")
set_tests_properties(serve_schemathesis PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77 LABELS "serve;slow")
