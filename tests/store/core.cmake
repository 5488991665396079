foreach(test io names manifests sessions store store_faults store_races)
  mlxr_test(test_${test} SOURCES test_${test}.c ROOMS store)
endforeach()
# --wrap is GNU ld's and lld's; the sanitizers that replace malloc still see the real calls behind it.
if(NOT APPLE)
  mlxr_test(test_store_nomem SOURCES test_store_nomem.c ROOMS store)
  target_link_options(test_store_nomem PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
endif()
