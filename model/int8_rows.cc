#include "model/int8_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace sheaf {
namespace {

constexpr float kLargestCode = 127.0f;
constexpr uint8_t kZeroCode = 128;
// Adding it leaves no bits below 1, so the sum is rounded as float32 additions are: to the nearest,
// halves to even. Its low bits are then the integer.
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23
constexpr auto kRounderBits = std::bit_cast<int32_t>(kRounder);

}  // namespace

void QuantizeRowToInt8(const float* row, int k, uint8_t* codes, float* scales) {
  for (int first = 0; first < k; first += kInt8Group) {
    const int end = std::min(k, first + kInt8Group);
    float largest = 0.0f;
    for (int i = first; i < end; ++i) largest = std::max(largest, std::abs(row[i]));
    const float scale = largest / kLargestCode;
    if (scale < std::numeric_limits<float>::min()) {
      scales[first / kInt8Group] = 0.0f;
      std::fill(codes + first, codes + end, kZeroCode);
      continue;
    }
    scales[first / kInt8Group] = scale;
    for (int i = first; i < end; ++i) {
      const auto bits = std::bit_cast<int32_t>(row[i] / scale + kRounder);
      codes[i] = static_cast<uint8_t>(bits - kRounderBits + kZeroCode);
    }
  }
}

}  // namespace sheaf
