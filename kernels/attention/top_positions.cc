#include "kernels/attention/top_positions.h"

#include <array>
#include <bit>
#include <numeric>
#include <utility>

namespace sheaf::kernels {
namespace {

// Unsigned integers in the order of the scores: the sign bit turned over, and for negative numbers
// all the others. NaN is 0, which -infinity (0x007FFFFF) is not.
inline uint32_t OrderKey(float score) {
  if (score != score) return 0;
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 + 0 is +0
  const uint32_t negative = static_cast<uint32_t>(-static_cast<int32_t>(bits >> 31));
  return bits ^ (negative | 0x80000000u);
}

}  // namespace

void TopPositions(const float* scores, int n, int count, int32_t* positions) {
  if (count <= 0) return;
  if (count >= n) {
    std::iota(positions, positions + n, 0);
    return;
  }
  // The count-th largest key, digit by digit from the top: `prefix` holds the digits known so far,
  // `wanted` how many of the keys that begin with it belong to the result.
  uint32_t prefix = 0;
  uint32_t known_bits = 0;
  uint32_t wanted = static_cast<uint32_t>(count);
  for (const auto& [shift, digit_bits] : {std::pair<int, int>{21, 11}, {10, 11}, {0, 10}}) {
    std::array<uint32_t, 2048> histogram{};
    const uint32_t digit_mask = (1u << digit_bits) - 1;
    for (int i = 0; i < n; ++i) {
      const uint32_t key = OrderKey(scores[i]);
      if ((key & known_bits) == prefix) ++histogram[(key >> shift) & digit_mask];
    }
    uint32_t digit = digit_mask;
    while (histogram[digit] < wanted) wanted -= histogram[digit--];
    prefix |= digit << shift;
    known_bits |= digit_mask << shift;
  }
  int32_t* out = positions;
  for (int i = 0; i < n; ++i) {
    const uint32_t key = OrderKey(scores[i]);
    if (key < prefix) continue;
    if (key == prefix) {
      if (wanted == 0) continue;
      --wanted;
    }
    *out++ = i;
  }
}

}  // namespace sheaf::kernels
