#pragma once
// What the scalar products of 4-bit and 8-bit weights (w4a16_ref.cc, w8a16_ref.cc) do alike:
// everything but where a code lies.
//
// Numbers    kernels/linear/linear.h. A segment's sum is below 2^31: 128 * 255 * 32639.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/linear/integer_piece.h"
#include "kernels/linear/packed_integers.h"
#include "kernels/simd/half_float.h"

namespace sheaf::kernels::ref {

inline float ScaleAt(const void* scales, ScaleFormat format, size_t index) {
  const uint8_t* at = static_cast<const uint8_t*>(scales) + index * ScaleBytes(format);
  if (format == ScaleFormat::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return format == ScaleFormat::kBF16 ? Bf16ToFloat(bits) : F16ToFloat(bits);
}

// q of input i.
inline int ActivationAt(const int8_t* planes, int i) {
  const int slot = i % 2 * 4 + i % 8 / 2;  // in kPlaneOrder
  const int8_t* hi = planes + i / kActivationGroup * 256 + i % kActivationGroup / 8 * 8 + slot;
  return 256 * hi[0] + hi[kActivationGroup];
}

// code(output, i) is the stored code of packed input i.
template <int kBits, typename Code>
void MultiplyIntegers(const PackedIntegers<kBits>& w, const IntegerPiece& piece, const Code& code) {
  const int output_begin = piece.block_begin * kRowBlock;
  const int output_end = std::min(w.n, piece.block_end * kRowBlock);
  for (int i = piece.row_begin; i < piece.row_end; ++i) {
    const int8_t* planes = piece.x.row_planes(piece.row(i));
    const float* x_scales = piece.x.row_scales(piece.row(i));
    float* y = piece.y + (i - piece.row_begin) * piece.y_stride;
    for (int output = output_begin; output < output_end; ++output) {
      float acc = 0;
      for (int segment = 0; segment < w.segments(); ++segment) {
        const size_t index =
            (static_cast<size_t>(output / kRowBlock) * w.segments() + segment) * kRowBlock +
            output % kRowBlock;
        const int zero = w.zeros == nullptr ? w.kSymmetricZero : w.zeros[index];
        int32_t total = 0;
        for (int input = segment * w.segment; input < (segment + 1) * w.segment; ++input) {
          total += ActivationAt(planes, input) * (code(output, input) - zero);
        }
        const float scale = ScaleAt(w.scales, w.scale_format, index) *
                            x_scales[segment * w.segment / kActivationGroup];
        acc = std::fma(static_cast<float>(total), scale, acc);
      }
      if (piece.bias != nullptr) acc += piece.bias[output];
      y[output - output_begin] = acc;
    }
  }
}

}  // namespace sheaf::kernels::ref
