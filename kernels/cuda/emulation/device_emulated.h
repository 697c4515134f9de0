#pragma once
// kernels/cuda/device.h for compilers that are not nvcc: every operation by the emulator. What
// reads and writes a kernel's memory is inline, so that sanitizers see it as the kernel's own. See
// there for what each does.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/simd/half_float.h"

#define SHEAF_DEVICE inline
#define SHEAF_KERNEL(max_threads, min_blocks) inline void

namespace sheaf::kernels::cuda {

using emulation::Site;

inline int ThreadIndex() { return emulation::Here().thread; }
inline int BlockIndex() { return emulation::Here().block; }
inline int GridBlocks() { return emulation::Here().blocks; }
inline unsigned char* SharedMemory() { return emulation::Here().shared; }

inline void SyncBlock(const Site& site = Site::current()) { emulation::SyncBlock(site); }
inline void SyncWarp(const Site& site = Site::current()) { emulation::SyncWarp(site); }

inline uint32_t ShuffleXor(uint32_t value, int lanes, const Site& site = Site::current()) {
  uint32_t out;
  emulation::Meet(&value, 1, &out, 1, emulation::ShuffleXorWords, lanes, "ShuffleXor", site);
  return out;
}

inline void MultiplyTile(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         const Site& site = Site::current()) {
  uint32_t in[10] = {a[0], a[1], a[2], a[3], b0, b1};
  std::memcpy(in + 6, d, sizeof(d));
  uint32_t out[4];
  emulation::Meet(in, 10, out, 4, emulation::MultiplyTileWords, 0, "MultiplyTile", site);
  std::memcpy(d, out, sizeof(d));
}

inline void MultiplyFirstTile(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                              const Site& site = Site::current()) {
  for (int32_t& sum : d) sum = 0;
  MultiplyTile(d, a, b0, b1, site);
}

inline void PoisonCopyTarget(void* to, int bytes) {
  for (int i = 0; i < bytes / 4; ++i) static_cast<uint32_t*>(to)[i] = 0xffffffffu;
}
inline void CopyAsync16(void* to, const void* from, const Site& site = Site::current()) {
  emulation::QueueCopy(to, from, 16, site);
  PoisonCopyTarget(to, 16);
}
inline void CopyAsync4(void* to, const void* from, const Site& site = Site::current()) {
  emulation::QueueCopy(to, from, 4, site);
  PoisonCopyTarget(to, 4);
}
inline void CopyAsyncCommit() { emulation::CommitCopies(); }
template <int kLeave>
inline void CopyAsyncWait() {
  for (emulation::Copy copy; emulation::TakeDueCopy(kLeave, &copy);) {
    for (int i = 0; i < copy.bytes / 4; ++i) {
      reinterpret_cast<uint32_t*>(copy.to)[i] = reinterpret_cast<const uint32_t*>(copy.from)[i];
    }
  }
}

inline float FusedMultiplyAdd(float a, float b, float c) { return std::fma(a, b, c); }
inline float Multiply(float a, float b) { return a * b; }
inline float Add(float a, float b) { return a + b; }
inline float Subtract(float a, float b) { return a - b; }
inline float Divide(float a, float b) { return a / b; }
inline float IntToFloat(int32_t value) { return static_cast<float>(value); }
inline int32_t RoundToInt(float value) { return static_cast<int32_t>(std::nearbyint(value)); }
inline float HalfToFloat(uint16_t bits) { return F16ToFloat(bits); }
inline uint32_t FloatBits(float value) { return std::bit_cast<uint32_t>(value); }
inline float BitsToFloat(uint32_t bits) { return std::bit_cast<float>(bits); }

}  // namespace sheaf::kernels::cuda
