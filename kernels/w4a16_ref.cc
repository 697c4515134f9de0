#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/half_float.h"
#include "kernels/w4a16.h"

namespace sheaf::kernels::ref {
namespace {

float ScaleAt(const PackedW4& w, size_t index) {
  const uint8_t* at = static_cast<const uint8_t*>(w.scales) + index * ScaleBytes(w.scale_format);
  if (w.scale_format == ScaleFormat::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return w.scale_format == ScaleFormat::kBF16 ? Bf16ToFloat(bits) : F16ToFloat(bits);
}

// sum of q[i] * (nibble[i] - zero) over one segment of one output row.
int32_t SegmentSum(const PackedW4& w, int output, int segment, const int8_t* planes, int zero) {
  const int block = output / kRowBlock;
  int32_t total = 0;
  for (int i = segment * w.segment; i < (segment + 1) * w.segment; ++i) {
    const size_t step = static_cast<size_t>(block) * w.steps() + i / 8;
    // Byte b of a word holds input 2b in its low and 2b + 1 in its high nibble.
    const uint8_t byte = w.nibbles[step * 64 + output % kRowBlock * 4 + i % 8 / 2];
    const int nibble = i % 2 == 0 ? byte & 15 : byte >> 4;
    const int slot = i % 2 * 4 + i % 8 / 2;  // in kPlaneOrder
    const int8_t* hi = planes + i / kActivationGroup * 256 + i % kActivationGroup / 8 * 8 + slot;
    const int q = 256 * hi[0] + hi[kActivationGroup];
    total += q * (nibble - zero);
  }
  return total;
}

}  // namespace

void MultiplyW4(const W4Piece& piece) {
  const PackedW4& w = *piece.w;
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
        const int zero = w.zeros == nullptr ? 8 : w.zeros[index];
        const int32_t total = SegmentSum(w, output, segment, planes, zero);
        const float scale = ScaleAt(w, index) * x_scales[segment * w.segment / kActivationGroup];
        acc = std::fma(static_cast<float>(total), scale, acc);
      }
      if (piece.bias != nullptr) acc += piece.bias[output];
      y[output - output_begin] = acc;
    }
  }
}

}  // namespace sheaf::kernels::ref
