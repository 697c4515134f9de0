#include "kernels/linear/quantized_rows.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/simd/cpu_target.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels {
namespace {

struct Row {
  explicit Row(int k)
      : planes(256 * NumGroups(k), 99), scales(NumGroups(k), 99), sums(4 * NumGroups(k), 99) {}
  std::vector<int8_t> planes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
};

Row Quantize(const std::vector<float>& x) {
  Row row(static_cast<int>(x.size()));
  QuantizeRow(x.data(), static_cast<int>(x.size()), row.planes.data(), row.scales.data(),
              row.sums.data());
  return row;
}

class QuantizedRowsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(ForceCpuTarget(GetParam()).ok()); }
  void TearDown() override { ASSERT_TRUE(ForceCpuTarget("auto").ok()); }
};

INSTANTIATE_TEST_SUITE_P(Targets, QuantizedRowsTest, testing::ValuesIn(AvailableCpuTargets()),
                         [](const auto& param) { return param.param; });

TEST_P(QuantizedRowsTest, PlanesHoldTheInputsInTheOrderOfNibbles) {
  // With a largest value of 32512 the scale is 1 and q = x.
  std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8, 32512, -32512, 127, 128, -128, -129, 383, 384};
  const Row row = Quantize(x);
  EXPECT_EQ(row.scales[0], 1.0f);
  // Inputs 0 2 4 6 1 3 5 7 of each run of eight; q = 256 * hi + lo.
  const std::vector<int8_t> hi(row.planes.begin(), row.planes.begin() + 16);
  const std::vector<int8_t> lo(row.planes.begin() + 128, row.planes.begin() + 144);
  EXPECT_EQ(hi, (std::vector<int8_t>{0, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1, -127, 1, -1, 2}));
  EXPECT_EQ(lo,
            (std::vector<int8_t>{1, 3, 5, 7, 2, 4, 6, 8, 0, 127, -128, 127, 0, -128, 127, -128}));
  EXPECT_EQ(row.sums, (std::vector<int32_t>{36 + 127 + 128 - 128 - 129 + 383 + 384, 0, 0, 0}));
  for (int i = 16; i < 128; ++i) {
    EXPECT_EQ(row.planes[i], 0) << i;
    EXPECT_EQ(row.planes[128 + i], 0) << i;
  }
}

TEST_P(QuantizedRowsTest, RoundsHalfToEven) {
  const Row row = Quantize({32512, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 3.49f});
  std::vector<float> back(8);
  DequantizeRow(row.planes.data(), row.scales.data(), 8, back.data());
  EXPECT_EQ(back, (std::vector<float>{32512, 0, 2, 2, 0, -2, -2, 3}));
}

TEST_P(QuantizedRowsTest, ZeroTinyAndNonFiniteGroupsAreTheirOwn) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x(5 * 128 + 3, 0.0f);
  x[130] = 1e-31f;
  x[2 * 128 + 7] = std::nanf("");
  x[3 * 128 + 127] = -infinity;
  x[4 * 128] = 1;
  x[5 * 128 + 2] = -2;
  const Row row = Quantize(x);
  EXPECT_EQ(row.scales[0], 0);
  EXPECT_EQ(row.scales[1], 0);
  EXPECT_TRUE(std::isnan(row.scales[2]));
  EXPECT_TRUE(std::isnan(row.scales[3]));
  EXPECT_EQ(row.scales[4], 1.0f / 32512);
  EXPECT_EQ(row.scales[5], 2.0f / 32512);
  for (int i = 0; i < 4 * 256; ++i) ASSERT_EQ(row.planes[i], 0) << i;
  for (int i = 0; i < 4 * 4; ++i) ASSERT_EQ(row.sums[i], 0) << i;
  EXPECT_EQ(row.sums[16], 32512);
  EXPECT_EQ(row.sums[20], -32512);
}

TEST_P(QuantizedRowsTest, SameBitsAsTheReferenceAndCloseToTheInput) {
  const uint32_t seed = TestSeed();
  SCOPED_TRACE(testing::Message() << "SHEAF_TEST_SEED=" << seed);
  std::mt19937 random(seed);
  for (int k : {1, 15, 16, 17, 31, 32, 33, 127, 128, 129, 384, 1000}) {
    const std::vector<float> x = RandomActivations(random, k);
    const Row row = Quantize(x);
    Row expected(k);
    ref::QuantizeRow(x.data(), k, expected.planes.data(), expected.scales.data(),
                     expected.sums.data());
    EXPECT_EQ(row.planes, expected.planes) << k;
    EXPECT_EQ(row.scales, expected.scales) << k;
    EXPECT_EQ(row.sums, expected.sums) << k;

    std::vector<int32_t> sums(row.sums.size());
    SumRow(row.planes.data(), k, sums.data());
    EXPECT_EQ(sums, row.sums) << k;

    std::vector<float> back(k + 1, 99);
    DequantizeRow(row.planes.data(), row.scales.data(), k, back.data());
    std::vector<float> expected_back(k);
    ref::DequantizeRow(row.planes.data(), row.scales.data(), k, expected_back.data());
    for (int i = 0; i < k; ++i) {
      ASSERT_EQ(BitsOf(back[i]), BitsOf(expected_back[i])) << k << " " << i;
      ASSERT_NEAR(back[i], x[i], row.scales[i / 128] * 0.51f) << k << " " << i;
    }
    EXPECT_EQ(back[k], 99) << "wrote past the row";
  }
}

}  // namespace
}  // namespace sheaf::kernels
