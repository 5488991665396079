mlxr_test(test_create SOURCES test_create.c ROOMS convert)
if(NOT APPLE) # its linker has no --wrap
  mlxr_test(test_create_nomem SOURCES test_create_nomem.c ROOMS convert)
  target_compile_options(test_create_nomem PRIVATE -Wno-reserved-identifier -Wno-unknown-warning-option)
  target_link_options(test_create_nomem PRIVATE -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc)
endif()
