// What `sheaf verify` counts, on hand-made values.

#include "model/verify/value_scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace sheaf {
namespace {

template <typename T>
std::span<const uint8_t> Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

TEST(FloatScan, CountsHalfFloatsByTheirBits) {
  // 1, -2, 65504 (the largest), -0, the smallest subnormal, -subnormal, Inf, NaN.
  const std::vector<uint16_t> values = {0x3C00, 0xC000, 0x7BFF, 0x8000,
                                        0x0001, 0x83FF, 0x7C00, 0xFE01};
  FloatScan scan(TensorDtype::kF16);
  scan.Add(Bytes(values));
  const FloatFacts& facts = scan.facts();
  EXPECT_EQ(facts.count, 8u);
  EXPECT_EQ(facts.not_finite, 2u);
  EXPECT_EQ(facts.first_not_finite, 6u);
  EXPECT_EQ(facts.zeros, 1u);
  EXPECT_EQ(facts.negatives, 2u);
  EXPECT_EQ(facts.subnormals, 2u);
  EXPECT_EQ(facts.min, -2.0);
  EXPECT_EQ(facts.max, 65504.0);
}

TEST(FloatScan, KnowsEveryFloatFormat) {
  const auto range = [](TensorDtype dtype, const auto& values) {
    FloatScan scan(dtype);
    scan.Add(Bytes(values));
    return scan.facts();
  };
  using Words8 = std::vector<uint8_t>;
  using Words16 = std::vector<uint16_t>;
  const FloatFacts bf16 = range(TensorDtype::kBF16, Words16{0x3F80, 0xBFC0, 0x7F80});
  EXPECT_EQ(bf16.max, 1.0);
  EXPECT_EQ(bf16.min, -1.5);
  EXPECT_EQ(bf16.not_finite, 1u);
  const FloatFacts e4m3 = range(TensorDtype::kF8E4M3, Words8{0x7E, 0xFF, 0x38, 0x01});
  EXPECT_EQ(e4m3.max, 448.0);
  EXPECT_EQ(e4m3.min, std::ldexp(1.0, -9));
  EXPECT_EQ(e4m3.not_finite, 1u);
  const FloatFacts e5m2 = range(TensorDtype::kF8E5M2, Words8{0x7B, 0x7C, 0xBC});
  EXPECT_EQ(e5m2.max, 57344.0);
  EXPECT_EQ(e5m2.min, -1.0);
  EXPECT_EQ(e5m2.not_finite, 1u);
  const FloatFacts f32 = range(TensorDtype::kF32, std::vector<float>{0.1f, -3.5f, NAN});
  EXPECT_EQ(f32.max, static_cast<double>(0.1f));
  EXPECT_EQ(f32.min, -3.5);
  EXPECT_EQ(f32.first_not_finite, 2u);
  const FloatFacts f64 = range(TensorDtype::kF64, std::vector<double>{0.1, -1e300});
  EXPECT_EQ(f64.max, 0.1);
  EXPECT_EQ(f64.min, -1e300);
}

TEST(FloatScan, PositionsGoOnOverPieces) {
  FloatScan scan(TensorDtype::kBF16);
  scan.Add(Bytes(std::vector<uint16_t>(1000, 0x3F80)));
  scan.Add(Bytes(std::vector<uint16_t>{0x3F80, 0x7FC0}));
  EXPECT_EQ(scan.facts().first_not_finite, 1001u);
}

TEST(CodeScan, FindsRunsOverPieces) {
  CodeScan scan;
  std::vector<uint32_t> words = {0x76543210, 0xFEDCBA98, 5, 5};
  scan.Add(Bytes(words));
  EXPECT_EQ(scan.facts().counts[5], 1u + 2u);
  EXPECT_EQ(scan.facts().counts[0], 1u + 14u);
  EXPECT_FALSE(scan.facts().OnlyCode());
  words = {5, 5, 5, 6};
  scan.Add(Bytes(words));
  EXPECT_FALSE(scan.facts().all_words_equal);
  EXPECT_EQ(scan.facts().run_begin, 2u);
  EXPECT_EQ(scan.facts().run_length, 5u);
  EXPECT_EQ(scan.facts().run_word, 5u);
}

TEST(CodeScan, OneCodeThroughout) {
  CodeScan scan;
  scan.Add(Bytes(std::vector<uint32_t>(10, 0x77777777)));
  EXPECT_EQ(scan.facts().OnlyCode(), 7);
  EXPECT_TRUE(scan.facts().all_words_equal);
}

TEST(GroupIndexScan, TellsTheKinds) {
  const auto facts = [](std::vector<int32_t> groups) {
    GroupIndexScan scan(3);
    scan.Add(Bytes(groups));
    return scan.facts();
  };
  EXPECT_TRUE(facts({0, 0, 0}).all_zero);
  EXPECT_TRUE(facts({0, 1, 1, 2}).in_order);
  EXPECT_FALSE(facts({1, 0, 2}).in_order);
  EXPECT_FALSE(facts({0, 1, 2}).first_bad);
  EXPECT_EQ(facts({0, 1, 3, -1}).first_bad, (std::pair<uint64_t, int32_t>{2, 3}));
  EXPECT_EQ(facts({0, -7}).first_bad, (std::pair<uint64_t, int32_t>{1, -7}));
}

}  // namespace
}  // namespace sheaf
