mlxr_test(test_recipe SOURCES test_recipe.c ROOMS store)
mlxr_test(test_modelfile SOURCES test_modelfile.c ROOMS store)
if(NOT APPLE) # its linker has no --wrap
  mlxr_test(test_recipe_nomem SOURCES test_recipe_nomem.c ROOMS store)
  target_compile_options(test_recipe_nomem PRIVATE -Wno-reserved-identifier -Wno-unknown-warning-option)
  target_link_options(test_recipe_nomem PRIVATE -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc)
endif()
