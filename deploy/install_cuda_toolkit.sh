#!/usr/bin/env bash
# Makes a CUDA 13.0 toolkit root for building (compiler, runtime, headers; no driver, no libraries of kernels) out of NVIDIA's
# Python wheels, where no toolkit is installed. x86-64 alone. 105 MB to load, 275 MB on disk, seconds.
#   deploy/install_cuda_toolkit.sh PREFIX     afterwards: cmake --preset release -DSHEAF_CUDA=ON -DCMAKE_CUDA_COMPILER=PREFIX/cuda/bin/nvcc
# Does nothing where PREFIX/cuda/bin/nvcc is this version already. Wants python3 with venv.
set -euo pipefail

if [[ $# -ne 1 ]]; then
  echo "usage: $0 PREFIX" >&2
  exit 2
fi
if [[ $(uname -m) != x86_64 ]]; then
  echo "$0: the wheels pinned here are for x86_64, this is $(uname -m): install a toolkit of 12.8 or newer" >&2
  exit 1
fi
version=13.0.88
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
if [[ -x $prefix/cuda/bin/nvcc ]] && "$prefix/cuda/bin/nvcc" --version | grep -qF "V$version"; then
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# All of them: nvcc itself asks for any version of the others, and newer ones do not go with it.
cat >"$work/wheels.txt" <<'WHEELS'
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
WHEELS
python3 -m venv "$work/venv"
rm -rf "$prefix/wheels"
"$work/venv/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
  --target "$prefix/wheels" --requirement "$work/wheels.txt"

root=$prefix/wheels/nvidia/cu13
ln -sfn lib "$root/lib64"
for library in "$root"/lib/lib*.so.*; do
  ln -sfn "$(basename "$library")" "${library%%.so.*}.so"
done
ln -sfn "$root" "$prefix/cuda"
"$prefix/cuda/bin/nvcc" --version | grep -qF "V$version"
