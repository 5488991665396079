# Finds MLX for the module in src/device/mlx: sets MLXR_MLX_FOUND, MLXR_MLX_INCLUDE_DIR and MLXR_MLX_LIBRARY.
#
# It is looked for in MLX_ROOT (the `mlx` folder of the PyPI wheel, or a prefix), in the project's own virtual
# environment that scripts/setup.sh mlx makes, beside an installed MLXConfig.cmake (MLX_DIR), then where the system and
# Homebrew have libraries. Headers and the library are all that is taken: the wheel's own CMake files want the CUDA
# toolkit where it was built with it.
set(MLXR_MLX AUTO CACHE STRING "Build the MLX module: AUTO (when MLX is there), ON, OFF")
set_property(CACHE MLXR_MLX PROPERTY STRINGS AUTO ON OFF)
set(MLX_ROOT "" CACHE PATH "MLX's folder: include/mlx/mlx.h and lib/ are in it")

set(MLXR_MLX_FOUND FALSE)
set(mlx_missing "")
if(MLXR_MLX STREQUAL "AUTO" AND MLXR_FUZZ)
  set(mlx_missing "it is not built for fuzzing")
elseif(MLXR_MLX STREQUAL "AUTO" AND MLXR_SANITIZE MATCHES "thread")
  set(mlx_missing "MLX's threads cannot be seen by the thread sanitizer")
endif()

if(MLXR_MLX AND NOT mlx_missing)
  file(GLOB mlx_venv "${PROJECT_SOURCE_DIR}/.cache/mlx-venv/lib/python*/site-packages/mlx")
  set(mlx_hints)
  if(MLX_DIR)
    list(APPEND mlx_hints "${MLX_DIR}/../../..")
  endif()
  list(APPEND mlx_hints ${mlx_venv})
  # A hint that changed must not be answered from the cache.
  unset(MLXR_MLX_INCLUDE_DIR CACHE)
  unset(MLXR_MLX_LIBRARY CACHE)
  if(MLX_ROOT)
    find_path(MLXR_MLX_INCLUDE_DIR mlx/mlx.h PATHS "${MLX_ROOT}/include" NO_DEFAULT_PATH)
    find_library(MLXR_MLX_LIBRARY mlx PATHS "${MLX_ROOT}/lib" NO_DEFAULT_PATH)
  else()
    find_path(MLXR_MLX_INCLUDE_DIR mlx/mlx.h HINTS ${mlx_hints} PATHS /opt/homebrew /usr/local
              PATH_SUFFIXES include)
    find_library(MLXR_MLX_LIBRARY mlx HINTS ${mlx_hints} PATHS /opt/homebrew /usr/local PATH_SUFFIXES lib)
  endif()
  include(CheckLanguage)
  check_language(CXX)
  if(NOT MLXR_MLX_INCLUDE_DIR OR NOT MLXR_MLX_LIBRARY)
    set(mlx_missing "MLX was not found (scripts/setup.sh mlx brings it; -DMLX_ROOT names its folder)")
  elseif(NOT CMAKE_CXX_COMPILER)
    set(mlx_missing "there is no C++ compiler")
  else()
    set(MLXR_MLX_FOUND TRUE)
  endif()
endif()

if(MLXR_MLX_FOUND)
  enable_language(CXX)
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g")
  message(STATUS "MLX: ${MLXR_MLX_LIBRARY}")
elseif(MLXR_MLX STREQUAL "ON")
  message(FATAL_ERROR "MLXR_MLX=ON, but ${mlx_missing}")
elseif(MLXR_MLX)
  message(STATUS "Device mlx is left out: ${mlx_missing}")
else()
  message(STATUS "Device mlx is left out: MLXR_MLX=OFF")
endif()
