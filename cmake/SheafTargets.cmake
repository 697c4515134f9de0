# The four kinds of target in this repository, with one set of flags.
#
#   sheaf_library(NAME SRCS ... DEPS ...)      a folder's library
#   sheaf_test(NAME SRCS ... DEPS ...)         a GoogleTest program, registered with ctest case by case
#   sheaf_benchmark(NAME SRCS ... DEPS ...)    a program that prints figures; never run by ctest
#   sheaf_fuzzer(NAME SRCS ... DEPS ... [CORPUS dir])  a fuzz target, with a short run in ctest

set(SHEAF_WARNINGS -Wall -Wextra -Wshadow -Werror)
# Only explicit fused multiply-adds may fuse: the same bits on every instruction set depend on it.
set(SHEAF_NUMERICS -ffp-contract=off)

# The flags of SHEAF_SANITIZER, with its LEVEL of optimization.
function(sheaf_sanitize target level)
  if(SHEAF_SANITIZER STREQUAL "address")
    # Left out is what AddressSanitizer finds too; these checks are a fifth of the time to compile.
    set(sanitizers -fsanitize=address,undefined -fno-sanitize=null,object-size,vptr)
    list(APPEND sanitizers -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  elseif(SHEAF_SANITIZER STREQUAL "thread")
    # Boost.Asio's handlers are ordered by its queue's lock as well as by the fences that GCC warns of here.
    set(sanitizers -fsanitize=thread $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  else()
    message(FATAL_ERROR "SHEAF_SANITIZER is \"${SHEAF_SANITIZER}\": wanted address, thread or nothing")
  endif()
  # -g1: lines for the reports; more would double the time to compile.
  target_compile_options(${target} PRIVATE ${sanitizers} ${level} -g1)
  target_link_options(${target} PUBLIC ${sanitizers})
endfunction()

# TESTS: of sources that are compiled more often than they run. What they test is optimized, they need not be.
function(sheaf_flags target)
  cmake_parse_arguments(ARG "TESTS" "" "" ${ARGN})
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  target_compile_options(${target} PRIVATE ${SHEAF_WARNINGS} ${SHEAF_NUMERICS})
  if(SHEAF_SANITIZER)
    sheaf_sanitize(${target} $<IF:$<BOOL:${ARG_TESTS}>,-O0,-O1>)
  elseif(ARG_TESTS)
    target_compile_options(${target} PRIVATE -O1)
  endif()
endfunction()

function(sheaf_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  sheaf_flags(${name})
endfunction()

function(sheaf_test name)
  if(NOT SHEAF_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest_main GTest::gmock)
  # Absolute paths, for the sources that name them alone: the others compile to the same everywhere (ccache). A source that begins to
  # name them wants CMake run again.
  foreach(source IN LISTS ARG_SRCS)
    file(STRINGS ${source} names REGEX "SHEAF_(REFERENCE_DATA|SOURCE_DIR)")
    if(names)
      set_property(SOURCE ${source} PROPERTY COMPILE_DEFINITIONS SHEAF_REFERENCE_DATA="${SHEAF_REFERENCE_DATA}"
                   SHEAF_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    endif()
  endforeach()
  sheaf_flags(${name} TESTS)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  # One ctest entry a program: process start and discovery of every case would cost more than the cases.
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
endfunction()

function(sheaf_benchmark name)
  if(NOT SHEAF_BENCHMARKS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} benchmark::benchmark)
  sheaf_flags(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/benchmarks)
endfunction()

# With clang the target is a libFuzzer program; with g++ a replayer (tests/fuzz_replay.cc) feeds it the
# corpus and seeded mutations of it, so that the same entry point runs in every build.
function(sheaf_fuzzer name)
  if(NOT SHEAF_FUZZERS OR NOT SHEAF_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "CORPUS" "SRCS;DEPS" ${ARGN})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    add_executable(${name} ${ARG_SRCS})
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set(run_options -max_total_time=10)
  else()
    add_executable(${name} ${ARG_SRCS} ${CMAKE_SOURCE_DIR}/tests/fuzz_replay.cc)
    set(run_options --runs=20000 --max_seconds=10)
  endif()
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  sheaf_flags(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  add_test(NAME ${name} COMMAND ${name} ${run_options} ${ARG_CORPUS})
  set_tests_properties(${name} PROPERTIES TIMEOUT 120)
endfunction()
