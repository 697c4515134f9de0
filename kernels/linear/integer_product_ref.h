#pragma once
// What the scalar products of 4-bit and 8-bit weights (w4a16_ref.cc, w8a16_ref.cc) do alike:
// everything but where a code lies.
//
// Numbers    kernels/linear/linear.h. A segment's sum is below 2^31: 128 * 255 * 32639. Of 8-bit
//            activations 32 inputs' sum is below 2^24, so that it is a float without rounding.

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
inline int ActivationAt(ActivationBits bits, const int8_t* planes, int i) {
  const int slot = i % 2 * 4 + i % 8 / 2;  // in kPlaneOrder
  if (bits == ActivationBits::k8) return planes[i / 8 * 8 + slot];
  const int8_t* hi = planes + i / kActivationGroup * 256 + i % kActivationGroup / 8 * 8 + slot;
  return 256 * hi[0] + hi[kActivationGroup];
}

// code(output, i) is the stored code of packed input i.
template <int kBits, typename Code>
void MultiplyIntegers(const PackedIntegers<kBits>& w, const IntegerPiece& piece, const Code& code) {
  const int output_begin = piece.block_begin * kRowBlock;
  const int output_end = std::min(w.n, piece.block_end * kRowBlock);
  const bool bytes = piece.x.bits == ActivationBits::k8;
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
        const float w_scale = ScaleAt(w.scales, w.scale_format, index);
        const auto sum = [&](int begin, int end) {
          int32_t total = 0;
          for (int input = begin; input < end; ++input) {
            total += ActivationAt(piece.x.bits, planes, input) * (code(output, input) - zero);
          }
          return static_cast<float>(total);
        };
        const int begin = segment * w.segment;
        const int end = begin + w.segment;
        if (bytes) {
          float of_segment = 0;
          for (int at = begin; at < end; at += kSumGranule) {
            of_segment =
                std::fma(sum(at, at + kSumGranule), x_scales[at / kSumGranule], of_segment);
          }
          acc = std::fma(of_segment, w_scale, acc);
        } else {
          acc = std::fma(sum(begin, end), w_scale * x_scales[begin / kActivationGroup], acc);
        }
      }
      if (piece.bias != nullptr) acc += piece.bias[output];
      y[output - output_begin] = acc;
    }
  }
}

}  // namespace sheaf::kernels::ref
