#pragma once
// kernels/cuda/device.h under nvcc. See there for what each does.

#include <cuda_fp16.h>

#include <cstdint>

#define SHEAF_DEVICE __device__ __forceinline__
#define SHEAF_KERNEL(max_threads, min_blocks) \
  static __global__ void __launch_bounds__(max_threads, min_blocks)

namespace sheaf::kernels::cuda {

SHEAF_DEVICE int ThreadIndex() { return static_cast<int>(threadIdx.x); }
SHEAF_DEVICE int BlockIndex() { return static_cast<int>(blockIdx.x); }
SHEAF_DEVICE int GridBlocks() { return static_cast<int>(gridDim.x); }
extern __shared__ __align__(128) unsigned char shared_memory[];
SHEAF_DEVICE unsigned char* SharedMemory() { return shared_memory; }

SHEAF_DEVICE void SyncBlock() { __syncthreads(); }
SHEAF_DEVICE void SyncWarp() { __syncwarp(); }
SHEAF_DEVICE uint32_t ShuffleXor(uint32_t value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}

SHEAF_DEVICE void MultiplyTile(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

SHEAF_DEVICE void MultiplyFirstTile(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
}

SHEAF_DEVICE uint32_t SharedAddress(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}
SHEAF_DEVICE void CopyAsync16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(SharedAddress(to)),
               "l"(from)
               : "memory");
}
SHEAF_DEVICE void CopyAsync4(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(SharedAddress(to)), "l"(from)
               : "memory");
}
SHEAF_DEVICE void CopyAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeave>
SHEAF_DEVICE void CopyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeave) : "memory");
}

SHEAF_DEVICE float FusedMultiplyAdd(float a, float b, float c) { return __fmaf_rn(a, b, c); }
SHEAF_DEVICE float Multiply(float a, float b) { return __fmul_rn(a, b); }
SHEAF_DEVICE float Add(float a, float b) { return __fadd_rn(a, b); }
SHEAF_DEVICE float Subtract(float a, float b) { return __fsub_rn(a, b); }
SHEAF_DEVICE float Divide(float a, float b) { return __fdiv_rn(a, b); }
SHEAF_DEVICE float IntToFloat(int32_t value) { return __int2float_rn(value); }
SHEAF_DEVICE int32_t RoundToInt(float value) { return __float2int_rn(value); }
SHEAF_DEVICE float HalfToFloat(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
SHEAF_DEVICE uint32_t FloatBits(float value) { return __float_as_uint(value); }
SHEAF_DEVICE float BitsToFloat(uint32_t bits) { return __uint_as_float(bits); }

}  // namespace sheaf::kernels::cuda
