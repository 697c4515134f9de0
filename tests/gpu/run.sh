#!/usr/bin/env bash
# Everything that only a machine with an NVIDIA GPU can show about the CUDA kernels: builds them, compares their bytes with the CPU's,
# looks for memory errors and races with compute-sanitizer where it is installed, measures.
#   tests/gpu/run.sh [BUILD_FOLDER]      (build/gpu; a toolkit is made below it where nvcc is not found)
# Exit status: 77 without a GPU, 1 when something failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/gpu}
mkdir -p "$build"

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L; then
  echo "no NVIDIA GPU on this machine: nothing was run" >&2
  exit 77
fi
nvcc=$(command -v nvcc || true)
if [[ -z $nvcc ]]; then
  deploy/install_cuda_toolkit.sh "$build/toolkit"
  nvcc=$(cd "$build/toolkit/cuda/bin" && pwd)/nvcc
fi
cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DSHEAF_CUDA=ON -DCMAKE_CUDA_COMPILER="$nvcc" >"$build.configure.log" 2>&1 ||
  { cat "$build.configure.log"; exit 1; }
cmake --build "$build" --target cuda_kernels_test cuda_races_test cuda_gpu_test record_launches expert_ffn_cuda_bench

failed=0
ctest --test-dir "$build" --output-on-failure -R '^cuda_' || failed=1
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    echo "compute-sanitizer: $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/tests/cuda_gpu_test" \
      --gtest_filter='*OneRow:*FewAndMany*:*Permutations:*GateUp*' || failed=1
  done
else
  echo "compute-sanitizer is not installed: left out"
fi
"$build/benchmarks/expert_ffn_cuda_bench" --benchmark_counters_tabular=true || failed=1
exit "$failed"
