#pragma once
// An integer weight matrix W [n][k] in the layout that the CPU kernels read, whatever file format
// it came from.
//
//   W[row][i] = scale[row][i / segment] * (code[row][i] - zero[row][i / segment])
//
// Codes are unsigned: 0..15 or 0..255; the zero is 8 or 128 if symmetric. 16 output rows make a row
// block, 8 inputs a step; what one (row block, step) looks like stands in
// kernels/linear/packed_w4.h and packed_w8.h.
//
//   codes    [ceil(n/16)][PaddedK(k)/8][16 kBits bytes]
//   scales   [ceil(n/16)][PaddedK(k)/segment][16]      f16, bf16 or f32; of either sign
//   zeros    [ceil(n/16)][PaddedK(k)/segment][16] u8   absent when symmetric
//
// Padding rows and inputs have code 0 and scale 0. `segment` is 32, 64 or 128: files with larger
// groups (or one scale a row) repeat the scale, so that a segment never spans two activation
// groups. `permutation` (desc_act files): packed input i multiplies activation permutation[i];
// absent = identity.
//
// Ownership  a view; model/ owns the memory (64-byte aligned codes).

#include <cstddef>
#include <cstdint>

#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels {

inline constexpr int kRowBlock = 16;

enum class ScaleFormat : uint8_t { kF16, kBF16, kF32 };

constexpr size_t ScaleBytes(ScaleFormat format) { return format == ScaleFormat::kF32 ? 4 : 2; }
constexpr int NumRowBlocks(int n) { return (n + kRowBlock - 1) / kRowBlock; }

template <int kBits>
struct PackedIntegers {
  static constexpr int kSymmetricZero = 1 << (kBits - 1);
  static constexpr int kStepBytes = kRowBlock * kBits;

  int n = 0;
  int k = 0;
  int segment = 128;
  ScaleFormat scale_format = ScaleFormat::kF16;
  const uint8_t* codes = nullptr;
  const void* scales = nullptr;
  const uint8_t* zeros = nullptr;
  const int32_t* permutation = nullptr;  // [k]

  int row_blocks() const { return NumRowBlocks(n); }
  int steps() const { return PaddedK(k) / 8; }
  int segments() const { return PaddedK(k) / segment; }
  size_t code_bytes() const { return size_t{kStepBytes} * steps() * row_blocks(); }
  size_t scale_count() const { return size_t{kRowBlock} * segments() * row_blocks(); }
};

}  // namespace sheaf::kernels
