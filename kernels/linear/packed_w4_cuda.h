#pragma once
// 4-bit weights in a device's memory: kernels/linear/packed_integers.h with the codes in the order
// in which tensor cores take them. Scales and zeros are as on the CPU.
//
// 16 rows x 128 inputs of codes are a tile of 1024 bytes, as in the packed layout; within it the
// 256 words (one row, 8 inputs each) are permuted:
//
//   word of (row g + 8 r, step 4 s + t), g < 8, r < 2, s < 4, t < 4
//     ->  [s / 2][lane 4 g + t][s % 2][r]
//
// so that a lane of a warp takes 16 bytes at a time, all lanes 512 bytes in a row, and what it
// takes is what mma.m16n8k32 wants of it: a word's low nibbles are inputs 0 2 4 6 of its 8, the
// high ones 1 3 5 7, in the order of the activations' planes (kernels/linear/quantized_rows.h).
//
// Ownership  a view of device memory, codes 16-byte, scales and zeros 16-byte aligned.
// Threads    pure functions.

#include <cstddef>
#include <cstdint>

#include "kernels/linear/packed_integers.h"

namespace sheaf::kernels::cuda {

inline constexpr int kTileBytes = kRowBlock * kActivationGroup / 2;
inline constexpr int kTileWords = kTileBytes / 4;

struct DeviceMatrix {
  int32_t n = 0;
  int32_t k = 0;
  int32_t segment = 128;  // 32, 64 or 128 inputs
  ScaleFormat scale_format = ScaleFormat::kF16;
  const uint8_t* codes = nullptr;   // tiles [ceil(n/16)][groups]
  const uint8_t* scales = nullptr;  // [ceil(n/16)][segments][16]
  const uint8_t* zeros = nullptr;   // [ceil(n/16)][segments][16], null: 8
  const float* bias = nullptr;      // [n] or null
  const int32_t* permutation =
      nullptr;  // [k] or null; gate and up with the same one name the same pointer
};

// Bytes of one tile with its scales and zeros, a multiple of 16: what a warp reads a step.
constexpr int PartBytes(int segment, ScaleFormat format, bool zeros) {
  const int segments = kActivationGroup / segment;
  return kTileBytes +
         segments * kRowBlock * (static_cast<int>(ScaleBytes(format)) + (zeros ? 1 : 0));
}

// Where word i of a packed tile (step i / 16, row i % 16) lies in a device's tile.
constexpr int DeviceWord(int i) {
  const int step = i / kRowBlock, row = i % kRowBlock;
  const int lane = row % 8 * 4 + step % 4;
  return step / 8 * 128 + lane * 4 + step / 4 % 2 * 2 + row / 8;
}

}  // namespace sheaf::kernels::cuda
