#include "model/verify/value_scan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace sheaf {
namespace {

// A float format by its bits. What is above max_finite without its sign is NaN or Inf.
template <typename Bits>
struct FloatBits {
  int mantissa_bits;
  int bias;
  Bits max_finite;
};

template <typename Bits>
double Decode(Bits magnitude, const FloatBits<Bits>& format) {
  const auto exponent = static_cast<int>(magnitude >> format.mantissa_bits);
  const auto mantissa = static_cast<double>(magnitude & ((Bits{1} << format.mantissa_bits) - 1));
  const double unit = std::ldexp(1.0, -format.mantissa_bits);
  return exponent == 0 ? std::ldexp(mantissa * unit, 1 - format.bias)
                       : std::ldexp(1.0 + mantissa * unit, exponent - format.bias);
}

template <typename Bits>
void Scan(std::span<const uint8_t> piece, const FloatBits<Bits>& format, FloatFacts& facts) {
  using Signed = std::make_signed_t<Bits>;
  constexpr auto kMagnitude = static_cast<Bits>(std::numeric_limits<Signed>::max());
  const size_t count = piece.size() / sizeof(Bits);
  const auto* const values = reinterpret_cast<const Bits*>(piece.data());
  const auto one = static_cast<Bits>(Bits{1} << format.mantissa_bits);
  // Sign and magnitude in the order of the numbers, as signed integers.
  Signed lowest = std::numeric_limits<Signed>::max(), highest = std::numeric_limits<Signed>::min();
  uint64_t bad = 0, zeros = 0, negatives = 0, subnormals = 0;
  for (size_t i = 0; i < count; ++i) {
    const Bits bits = values[i];
    const auto magnitude = static_cast<Bits>(bits & kMagnitude);
    const bool finite = magnitude <= format.max_finite;
    const bool negative = static_cast<Signed>(bits) < 0;
    bad += finite ? 0 : 1;
    zeros += magnitude == 0 ? 1 : 0;
    negatives += negative && magnitude != 0 && finite ? 1 : 0;
    subnormals += magnitude != 0 && magnitude < one ? 1 : 0;
    const auto key = static_cast<Signed>(negative ? -static_cast<Signed>(magnitude)
                                                  : static_cast<Signed>(magnitude));
    lowest = std::min(lowest, finite ? key : lowest);
    highest = std::max(highest, finite ? key : highest);
  }
  if (bad > 0 && !facts.first_not_finite) {
    size_t first = 0;
    while (static_cast<Bits>(values[first] & kMagnitude) <= format.max_finite) ++first;
    facts.first_not_finite = facts.count + first;
  }
  const auto decode = [&](Signed key) {
    const double magnitude = Decode(static_cast<Bits>(key < 0 ? -key : key), format);
    return key < 0 ? -magnitude : magnitude;
  };
  if (bad < count) {
    facts.min = std::min(facts.min, decode(lowest));
    facts.max = std::max(facts.max, decode(highest));
  }
  facts.count += count;
  facts.not_finite += bad;
  facts.zeros += zeros;
  facts.negatives += negatives;
  facts.subnormals += subnormals;
}

constexpr uint64_t kMaxFiniteF64 = 0x7FEFFFFFFFFFFFFF;

}  // namespace

void FloatFacts::Add(const FloatFacts& other) {
  count += other.count;
  not_finite += other.not_finite;
  zeros += other.zeros;
  negatives += other.negatives;
  subnormals += other.subnormals;
  min = std::min(min, other.min);
  max = std::max(max, other.max);
}

bool IsFloat(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kF8E4M3:
    case TensorDtype::kF8E5M2:
    case TensorDtype::kF16:
    case TensorDtype::kBF16:
    case TensorDtype::kF32:
    case TensorDtype::kF64:
      return true;
    default:
      return false;
  }
}

void FloatScan::Add(std::span<const uint8_t> piece) {
  switch (dtype_) {
    case TensorDtype::kF8E4M3:
      return Scan<uint8_t>(piece, {3, 7, 0x7E}, facts_);
    case TensorDtype::kF8E5M2:
      return Scan<uint8_t>(piece, {2, 15, 0x7B}, facts_);
    case TensorDtype::kF16:
      return Scan<uint16_t>(piece, {10, 15, 0x7BFF}, facts_);
    case TensorDtype::kBF16:
      return Scan<uint16_t>(piece, {7, 127, 0x7F7F}, facts_);
    case TensorDtype::kF32:
      return Scan<uint32_t>(piece, {23, 127, 0x7F7FFFFF}, facts_);
    case TensorDtype::kF64:
      return Scan<uint64_t>(piece, {52, 1023, kMaxFiniteF64}, facts_);
    default:
      return;
  }
}

std::optional<int> CodeFacts::OnlyCode() const {
  std::optional<int> only;
  for (int code = 0; code < 16; ++code) {
    if (counts[static_cast<size_t>(code)] == 0) continue;
    if (only) return std::nullopt;
    only = code;
  }
  return only;
}

void CodeScan::Add(std::span<const uint8_t> piece) {
  // Four tables: equal bytes one after another do not wait for each other.
  std::array<std::array<uint32_t, 256>, 4> bytes{};
  const size_t count = piece.size() / 4;
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* const at = piece.data() + 4 * i;
    for (size_t j = 0; j < 4; ++j) ++bytes[j][at[j]];
    uint32_t word;
    std::memcpy(&word, at, sizeof(word));
    if (facts_.words + i == 0) facts_.first_word = present_word_ = word;
    if (word != present_word_) {
      present_word_ = word;
      present_begin_ = facts_.words + i;
      facts_.all_words_equal = false;
    }
    if (facts_.words + i + 1 - present_begin_ > facts_.run_length) {
      facts_.run_begin = present_begin_;
      facts_.run_length = facts_.words + i + 1 - present_begin_;
      facts_.run_word = word;
    }
  }
  facts_.words += count;
  for (const auto& table : bytes) {
    for (size_t byte = 0; byte < 256; ++byte) {
      facts_.counts[byte & 15] += table[byte];
      facts_.counts[byte >> 4] += table[byte];
    }
  }
}

void GroupIndexScan::Add(std::span<const uint8_t> piece) {
  for (size_t i = 0; i + 4 <= piece.size(); i += 4, ++position_) {
    int32_t group;
    std::memcpy(&group, piece.data() + i, sizeof(group));
    if ((group < 0 || group >= groups_) && !facts_.first_bad)
      facts_.first_bad = {position_, group};
    facts_.all_zero = facts_.all_zero && group == 0;
    facts_.in_order = facts_.in_order && group >= last_;
    last_ = group;
  }
}

}  // namespace sheaf
