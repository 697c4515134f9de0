# SHEAF_CUDA: expert workers on NVIDIA GPUs. ON fails without a toolkit; AUTO is ON where one is found (nvcc in PATH, CUDACXX or
# CMAKE_CUDA_COMPILER; deploy/install_cuda_toolkit.sh makes one); OFF leaves no trace of CUDA but the tests of its kernels in the emulator.
# Sets SHEAF_CUDA_ENABLED. Defines
#   sheaf_cuda_library(NAME SRCS x.cu ... DEPS ...)   device code for every architecture of SHEAF_CUDA_ARCHITECTURES in one object
set(SHEAF_CUDA AUTO CACHE STRING "ON, OFF or AUTO: build for NVIDIA GPUs")
set_property(CACHE SHEAF_CUDA PROPERTY STRINGS ON OFF AUTO)
set(SHEAF_CUDA_ARCHITECTURES 80-real 86-real 89-real 90a-real 100a-real 120a-real CACHE STRING
    "What CUDA code is compiled for: A100, RTX 30, RTX 40 and L4, H100 and H200, B200, RTX 50")

set(SHEAF_CUDA_OLDEST 12.8)  # the first that knows sm_100a and sm_120a

set(SHEAF_CUDA_ENABLED OFF)
if(SHEAF_CUDA STREQUAL "AUTO")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_version ERROR_QUIET)
    if(nvcc_version MATCHES "release ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL ${SHEAF_CUDA_OLDEST})
      set(SHEAF_CUDA_ENABLED ON)
    else()
      message(STATUS "${CMAKE_CUDA_COMPILER} is older than CUDA ${SHEAF_CUDA_OLDEST}, or not nvcc: not used")
    endif()
  endif()
elseif(SHEAF_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "SHEAF_CUDA=ON, and no nvcc in PATH, CUDACXX or CMAKE_CUDA_COMPILER: deploy/install_cuda_toolkit.sh makes one")
  endif()
  set(SHEAF_CUDA_ENABLED ON)
endif()
message(STATUS "CUDA: ${SHEAF_CUDA_ENABLED} (SHEAF_CUDA=${SHEAF_CUDA})")

if(SHEAF_CUDA_ENABLED)
  set(CMAKE_CUDA_ARCHITECTURES ${SHEAF_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  # CMake 3.25 does not know that nvcc has C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  find_package(CUDAToolkit ${SHEAF_CUDA_OLDEST} REQUIRED)
endif()

# Only explicit fused multiply-adds may fuse, as in SHEAF_NUMERICS.
set(SHEAF_CUDA_FLAGS -fmad=false --expt-relaxed-constexpr)

function(sheaf_cuda_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} CUDA::cudart_static)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${SHEAF_CUDA_FLAGS} -Xcompiler=-Wall,-Wextra)
endfunction()
