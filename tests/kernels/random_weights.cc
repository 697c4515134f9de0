#include "tests/kernels/random_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

namespace sheaf::kernels {
namespace {

// A random 16-bit scale of ordinary size and either sign, and its value from the definition of the
// format.
uint16_t RandomHalf(std::mt19937& random, bool is_bf16, double& value) {
  const int fraction_bits = is_bf16 ? 7 : 10;
  const int bias = is_bf16 ? 127 : 15;
  const uint32_t sign = random() % 2;
  const uint32_t exponent = bias - 8 + random() % 6;
  const uint32_t fraction = random() % (1u << fraction_bits);
  value = std::ldexp(1.0 + static_cast<double>(fraction) / (1 << fraction_bits),
                     static_cast<int>(exponent) - bias);
  if (sign != 0) value = -value;
  return static_cast<uint16_t>(sign << 15 | exponent << fraction_bits | fraction);
}

}  // namespace

RandomLinear::RandomLinear(std::mt19937& random, const IntegerOptions& options) {
  if (options.bits == 8) {
    linear_.storage = Linear::Storage::kW8;
    MakeIntegers(random, options, linear_.w8);
  } else {
    linear_.storage = Linear::Storage::kW4;
    MakeIntegers(random, options, linear_.w4);
  }
}

template <int kBits>
void RandomLinear::MakeIntegers(std::mt19937& random, const IntegerOptions& options,
                                PackedIntegers<kBits>& w) {
  w.n = options.n;
  w.k = options.k;
  w.segment = options.segment;
  w.scale_format = options.scale_format;
  codes_.assign(w.code_bytes(), 0);
  scales_.assign(w.scale_count() * ScaleBytes(w.scale_format), 0);
  if (options.zeros) zeros_.assign(w.scale_count(), 0);
  if (options.permutation) {
    permutation_.resize(options.k);
    std::iota(permutation_.begin(), permutation_.end(), 0);
    std::shuffle(permutation_.begin(), permutation_.end(), random);
  }
  weights_.resize(size_t(options.n) * options.k);
  for (int output = 0; output < options.n; ++output) {
    const int block = output / 16;
    const int lane = output % 16;
    double scale = 0;
    int zero = 1 << (kBits - 1);
    for (int input = 0; input < options.k; ++input) {
      if (input % options.segment == 0) {
        const size_t index = (size_t(block) * w.segments() + input / options.segment) * 16 + lane;
        if (options.scale_format == ScaleFormat::kF32) {
          const float value = std::uniform_real_distribution<float>(-0.1f, 0.1f)(random);
          std::memcpy(&scales_[index * 4], &value, 4);
          scale = value;
        } else {
          const bool is_bf16 = options.scale_format == ScaleFormat::kBF16;
          const uint16_t half = RandomHalf(random, is_bf16, scale);
          std::memcpy(&scales_[index * 2], &half, 2);
        }
        if (options.zeros) {
          zero = static_cast<int>(random() % (1 << kBits));
          zeros_[index] = static_cast<uint8_t>(zero);
        }
      }
      // Bytes of the extremes more often than chance has them: their sums are the largest.
      const int code = kBits == 8 && random() % 4 == 0 ? static_cast<int>(random() % 2 * 255)
                                                       : static_cast<int>(random() % (1 << kBits));
      const size_t step = size_t(block) * w.steps() + input / 8;
      if constexpr (kBits == 8) {
        codes_[step * 128 + input % 2 * 64 + lane * 4 + input % 8 / 2] = static_cast<uint8_t>(code);
      } else {
        codes_[step * 64 + lane * 4 + input % 8 / 2] |=
            static_cast<uint8_t>(code << (input % 2 * 4));
      }
      const int source = options.permutation ? permutation_[input] : input;
      weights_[size_t(output) * options.k + source] = scale * (code - zero);
    }
  }
  w.codes = codes_.data();
  w.scales = scales_.data();
  w.zeros = options.zeros ? zeros_.data() : nullptr;
  w.permutation = options.permutation ? permutation_.data() : nullptr;
  if (options.bias) MakeBias(random, options.n);
}

RandomLinear::RandomLinear(std::mt19937& random, const DenseOptions& options) {
  linear_.storage = Linear::Storage::kDense;
  DenseMatrix& w = linear_.dense;
  w.n = options.n;
  w.k = options.k;
  w.format = options.format;
  const size_t count = size_t(options.n) * options.k;
  weights_.resize(count);
  // One element further on, as tensors in a file are aligned to their elements only.
  const size_t bytes = FloatBytes(options.format);
  dense_.assign((count + 1) * bytes, 0);
  if (options.format == FloatFormat::kE4M3) MakeE4M3(random, options);
  for (size_t i = 0; i < count && options.format != FloatFormat::kE4M3; ++i) {
    uint8_t* at = &dense_[(i + 1) * bytes];
    if (options.format == FloatFormat::kF32) {
      const float value = std::normal_distribution<float>(0, 0.05f)(random);
      std::memcpy(at, &value, 4);
      weights_[i] = value;
    } else {
      const uint16_t half = RandomHalf(random, options.format == FloatFormat::kBF16, weights_[i]);
      std::memcpy(at, &half, 2);
    }
  }
  w.data = dense_.data() + bytes;
  if (options.bias) MakeBias(random, options.n);
}

// Every code but the NaNs, with scales of 24 bits, whose products are rounded.
void RandomLinear::MakeE4M3(std::mt19937& random, const DenseOptions& options) {
  BlockScales& scales = linear_.dense.scales;
  scales.block_rows = options.block_rows;
  scales.block_columns = options.block_columns;
  scales.first_row = options.first_row;
  scales.first_column = options.first_column;
  scales.stride = scales.column(options.k - 1) + 1;
  block_scales_.resize(size_t((options.n - 1 + options.first_row) / options.block_rows + 1) *
                       scales.stride);
  for (float& scale : block_scales_) {
    scale = std::uniform_real_distribution<float>(-0.01f, 0.01f)(random);
  }
  scales.values = block_scales_.data();
  for (size_t i = 0; i < weights_.size(); ++i) {
    const uint32_t magnitude = random() % 0x7F, exponent = magnitude >> 3, fraction = magnitude & 7;
    const bool negative = random() % 2 != 0;
    dense_[i + 1] = static_cast<uint8_t>(magnitude | (negative ? 0x80 : 0));
    const double value = exponent == 0
                             ? std::ldexp(fraction, -9)
                             : std::ldexp(8.0 + fraction, static_cast<int>(exponent) - 10);
    const float scale = scales.row(static_cast<int>(i / options.k))[scales.column(
        static_cast<int>(i % options.k))];
    weights_[i] = static_cast<float>((negative ? -value : value) * scale);
  }
}

void RandomLinear::MakeBias(std::mt19937& random, int n) {
  bias_.resize(n);
  for (float& value : bias_) value = std::normal_distribution<float>(0, 2)(random);
  linear_.bias = bias_.data();
}

std::vector<float> RandomActivations(std::mt19937& random, size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random) * (random() % 64 == 0 ? 30.0f : 1.0f);
  return values;
}

uint32_t BitsOf(float x) { return x != x ? 0x7fc00000u : std::bit_cast<uint32_t>(x); }

}  // namespace sheaf::kernels
