#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: unit, oracle, process and fuzz tests of the release
# build, then the units that read outside bytes (text, checkpoints) under AddressSanitizer and
# UndefinedBehaviorSanitizer.
#   tests/run.sh [--release-only | --asan-all]
# --asan-all runs the process tests under the sanitizers too.
set -euo pipefail
cd "$(dirname "$0")/.."

deploy/install_dependencies.sh --tests

# The Rust library does not change between builds: compile it once.
rust_target=$PWD/build/rust

run() {  # PRESET "TARGET..." CTEST_ARGUMENT...
  local preset=$1 targets=$2
  shift 2
  cmake --preset "$preset" -DSHEAF_RUST_TARGET_DIR="$rust_target" >"build/$preset.configure.log" 2>&1 ||
    { cat "build/$preset.configure.log"; return 1; }
  echo "building $preset"
  # shellcheck disable=SC2086  # a list of words
  cmake --build "build/$preset" --target $targets
  ctest --test-dir "build/$preset" --output-on-failure --timeout 900 "$@"
}

mkdir -p build
run release all
case ${1:-} in
  --release-only) ;;
  # "once": knows nothing of the C++ build. "slow": thousands of forward passes; the same code runs in the others.
  --asan-all) run asan all -LE 'once|slow' ;;
  *)
    units='text_test chat_template_fuzz model_test safetensors_header_fuzz config_fuzz'
    run asan "$units" -R "^(${units// /|})\$"
    ;;
esac
