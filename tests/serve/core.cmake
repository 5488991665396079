foreach(test gate residency server serving turn workers)
  mlxr_test(test_${test} SOURCES test_${test}.c ROOMS serve)
endforeach()
