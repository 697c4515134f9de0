#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: unit, oracle, process and fuzz tests of the release
# build, then all but the slowest again under AddressSanitizer and UndefinedBehaviorSanitizer.
#   tests/run.sh [--release-only]
set -euo pipefail
cd "$(dirname "$0")/.."

deploy/install_dependencies.sh --tests

# The Rust library does not change between builds: compile it once.
rust_target=$PWD/build/rust

run() {  # PRESET CTEST_ARGUMENT...
  local preset=$1
  shift
  cmake --preset "$preset" -DSHEAF_RUST_TARGET_DIR="$rust_target" >"build/$preset.configure.log" 2>&1 ||
    { cat "build/$preset.configure.log"; return 1; }
  echo "building $preset"
  cmake --build "build/$preset"
  # Two at a time; what starts servers holds a lock (RESOURCE_LOCK) and runs beside small ones alone.
  ctest --test-dir "build/$preset" --output-on-failure --timeout 900 -j 2 "$@"
}

mkdir -p build
run release
if [[ ${1:-} == --release-only ]]; then exit 0; fi
# "once": knows nothing of the C++ build. "slow": thousands of forward passes; the same code runs in the others.
run asan -LE 'once|slow'
