#pragma once
// The words that CUDA kernels (x_cuda.cuh) are written in, so that one source is compiled by nvcc
// for a device and by any compiler for kernels/cuda/emulation. One dimension: block and grid sizes
// are numbers.
//
//   SHEAF_DEVICE f            a function of device code
//   SHEAF_KERNEL(t, b) f      a kernel of at most t threads a block, b blocks a processor aimed at
//   ThreadIndex BlockIndex GridBlocks SharedMemory
//                             where a thread is; SharedMemory is 128-byte aligned
//   SyncBlock SyncWarp        barriers; they order the memory accesses of those that meet
//   ShuffleXor(v, m)          the v of lane ^ m; orders nothing
//   MultiplyTile(d, a, b0, b1)
//                             d += A B of a warp, A unsigned [16][32] and B signed [32][8] bytes,
//                             exact in 32 bits; fragments as in PTX's mma.m16n8k32
//   MultiplyFirstTile         the same with d = A B
//   CopyAsync16 CopyAsync4 CopyAsyncCommit CopyAsyncWait<n>
//                             global to shared memory, aligned to its size; a wait leaves the n
//                             youngest groups of the calling thread under way and shows the others
//                             to it alone
//   FusedMultiplyAdd Multiply Add Subtract Divide IntToFloat RoundToInt HalfToFloat
//                             rounded to nearest even, subnormals kept, never contracted: the bits
//                             of the CPU kernels
//   FloatBits BitsToFloat     the same bits
//
// Threads and barriers as in CUDA: every thread of a block (lane of a warp) must reach the same
// SyncBlock (SyncWarp, ShuffleXor, MultiplyTile).

namespace sheaf::kernels::cuda {
inline constexpr int kWarpLanes = 32;
}

#ifdef __CUDACC__
#include "kernels/cuda/device_nvcc.h"
#else
#include "kernels/cuda/emulation/device_emulated.h"
#endif
