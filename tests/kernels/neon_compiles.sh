#!/bin/sh
# Compiles every SIMD kernel for aarch64 (NEON), runs cross_target_bits.cc there under an emulator and natively, and requires the same
# checksums from processors with and without dot products, each with the tile that is made for it. Exit status 77 means skipped: no cross compiler. One without an emulator is a failure: the bits are the point.
#
# usage: neon_compiles.sh SOURCE_DIR WORK_DIR
# needs: g++-aarch64-linux-gnu, libhwy-dev, qemu-user-static
set -eu
ulimit -c 0  # one run below ends by a signal
source_dir=$1
work_dir=$2
cross=${SHEAF_AARCH64_CXX:-aarch64-linux-gnu-g++}
if ! command -v "$cross" > /dev/null; then
  echo "skipped: no $cross (apt-get install g++-aarch64-linux-gnu qemu-user-static)"
  exit 77
fi
cache=$(command -v ccache || true)
mkdir -p "$work_dir/include" "$work_dir/neon" "$work_dir/native"
# Only header-only libraries, so that no x86 system header is seen by the cross compiler.
ln -sfn /usr/include/hwy "$work_dir/include/hwy"
ln -sfn /usr/include/absl "$work_dir/include/absl"
flags="-std=c++20 -O2 -Wall -Wextra -Wshadow -Werror -ffp-contract=off -I$source_dir"

# Everything but what has no SIMD and needs abseil's libraries (the choice of target, the sampler) or an emulator (CUDA).
sources="tests/kernels/cross_target_bits.cc base/thread_pool.cc"
for file in "$source_dir"/kernels/*/*.cc; do
  case $file in
    *_bench.cc | */cpu_target.cc | */sampling.cc | *_cuda.cc | *_emulated.cc) ;;
    *) sources="$sources ${file#"$source_dir"/}" ;;
  esac
done

compile() {  # compiler, folder, further flags; leaves the objects' names in $objects
  objects=
  for file in $sources; do
    object=$work_dir/$2/$(echo "$file" | tr / _).o
    $1 $flags $3 -c "$source_dir/$file" -o "$object"
    objects="$objects $object"
  done
}

compile "$cache $cross" neon "-isystem $work_dir/include"
echo "every kernel compiles for NEON"
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
if [ -z "$emulator" ]; then
  echo "no qemu-aarch64 to run them (apt-get install qemu-user-static)"
  exit 1
fi
$cross $objects -o "$work_dir/neon/cross_target_bits" -pthread -static
compile "$cache ${CXX:-c++}" native ""
${CXX:-c++} $objects -o "$work_dir/native/cross_target_bits" -pthread -lhwy
"$work_dir/native/cross_target_bits" auto > "$work_dir/native.txt"

expect() {  # processor, tile asked for, tile that must run
  if ! "$emulator" -cpu "$1" "$work_dir/neon/cross_target_bits" "$2" > "$work_dir/neon.txt" 2> "$work_dir/tile.txt"; then
    echo "$1, $2:"
    cat "$work_dir/tile.txt" "$work_dir/neon.txt"
    exit 1
  fi
  if [ "$(cat "$work_dir/tile.txt")" != "$3" ]; then
    echo "$1, asked for $2: ran $(cat "$work_dir/tile.txt") and not $3"
    exit 1
  fi
  diff "$work_dir/native.txt" "$work_dir/neon.txt"
  echo "$1, $2: the native checksums from tile $3"
}
expect cortex-a57 auto plain
expect cortex-a72 auto plain
expect neoverse-n1 auto dot
expect max auto dot
expect max plain plain
# That the tile has the instructions, and that the emulator knows who lacks them: else the above would show nothing.
if "$emulator" -cpu cortex-a57 "$work_dir/neon/cross_target_bits" dot > "$work_dir/refused.txt" 2>&1; then
  echo "cortex-a57 ran the tile of dot products"
  exit 1
fi
if ! grep -q "Illegal instruction" "$work_dir/refused.txt"; then
  echo "cortex-a57 refused the tile of dot products, but not as an illegal instruction:"
  cat "$work_dir/refused.txt"
  exit 1
fi
echo "cortex-a57, dot: illegal instruction, as it must"
cat "$work_dir/native.txt"
