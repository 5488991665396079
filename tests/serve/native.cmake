mlxr_test(test_serve_native SOURCES test_native.c ROOMS serve)
