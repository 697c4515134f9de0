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

struct ByteRow {
  explicit ByteRow(const std::vector<float>& x)
      : bytes(128 * NumGroups(int(x.size())), 99),
        scales(4 * NumGroups(int(x.size())), 99),
        sums(4 * NumGroups(int(x.size())), 99) {
    QuantizeByteRow(x.data(), static_cast<int>(x.size()), bytes.data(), scales.data(), sums.data());
  }
  std::vector<int8_t> bytes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
};

TEST_P(QuantizedRowsTest, BytesHoldTheInputsInTheOrderOfNibblesWithAScaleForEach32) {
  // With a largest value of 127 the scale is 1 and q = x, rounded half to even.
  std::vector<float> x(40, 0.0f);
  const float first[16] = {1,   2,    3,    4,    5,    6,     7,     8,
                           127, -127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 3.49f};
  std::copy_n(first, 16, x.begin());
  x[32] = -254;
  x[39] = 3;  // q = 1.5, which is 2
  const ByteRow row(x);
  EXPECT_EQ(row.scales, (std::vector<float>{1, 2, 0, 0}));
  EXPECT_EQ(row.sums, (std::vector<int32_t>{36 + 0 + 2 + 2 - 0 - 2 + 3, -127 + 2, 0, 0}));
  EXPECT_EQ(std::vector<int8_t>(row.bytes.begin(), row.bytes.begin() + 16),
            (std::vector<int8_t>{1, 3, 5, 7, 2, 4, 6, 8, 127, 0, 2, -2, -127, 2, 0, 3}));
  EXPECT_EQ(std::vector<int8_t>(row.bytes.begin() + 32, row.bytes.begin() + 40),
            (std::vector<int8_t>{-127, 0, 0, 0, 0, 0, 0, 2}));
  for (int i = 40; i < 128; ++i) EXPECT_EQ(row.bytes[i], 0) << i;
  std::vector<float> back(40);
  DequantizeByteRow(row.bytes.data(), row.scales.data(), 40, back.data());
  EXPECT_EQ(back[9], -127);
  EXPECT_EQ(back[32], -254);
  EXPECT_EQ(back[39], 4);
}

TEST_P(QuantizedRowsTest, ZeroTinyAndNonFinitePartsOf32AreTheirOwn) {
  std::vector<float> x(5 * 32, 0.0f);
  x[33] = 1e-31f;
  x[2 * 32 + 7] = std::nanf("");
  x[3 * 32 + 31] = -std::numeric_limits<float>::infinity();
  x[4 * 32] = 1;
  const ByteRow row(x);
  EXPECT_EQ(row.scales[0], 0);
  EXPECT_EQ(row.scales[1], 0);
  EXPECT_TRUE(std::isnan(row.scales[2]));
  EXPECT_TRUE(std::isnan(row.scales[3]));
  EXPECT_EQ(row.scales[4], 1.0f / 127);
  for (int i = 0; i < 4 * 32; ++i) ASSERT_EQ(row.bytes[i], 0) << i;
  EXPECT_EQ(row.sums, (std::vector<int32_t>{0, 0, 0, 0, 127, 0, 0, 0}));
}

TEST_P(QuantizedRowsTest, BytesAreThoseOfTheReferenceAndCloseToTheInput) {
  const uint32_t seed = TestSeed();
  SCOPED_TRACE(testing::Message() << "SHEAF_TEST_SEED=" << seed);
  std::mt19937 random(seed);
  for (int k : {1, 15, 16, 17, 31, 32, 33, 96, 97, 127, 128, 129, 384, 1000}) {
    const std::vector<float> x = RandomActivations(random, k);
    const ByteRow row(x);
    ByteRow expected(std::vector<float>(k, 0.0f));
    ref::QuantizeByteRow(x.data(), k, expected.bytes.data(), expected.scales.data(),
                         expected.sums.data());
    EXPECT_EQ(row.bytes, expected.bytes) << k;
    EXPECT_EQ(row.scales, expected.scales) << k;
    EXPECT_EQ(row.sums, expected.sums) << k;
    std::vector<int32_t> sums(row.sums.size());
    SumByteRow(row.bytes.data(), k, sums.data());
    EXPECT_EQ(sums, row.sums) << k;
    std::vector<float> back(k + 1, 99);
    DequantizeByteRow(row.bytes.data(), row.scales.data(), k, back.data());
    std::vector<float> expected_back(k);
    ref::DequantizeByteRow(row.bytes.data(), row.scales.data(), k, expected_back.data());
    for (int i = 0; i < k; ++i) {
      ASSERT_EQ(BitsOf(back[i]), BitsOf(expected_back[i])) << k << " " << i;
      ASSERT_NEAR(back[i], x[i], row.scales[i / 32] * 0.51f) << k << " " << i;
    }
    EXPECT_EQ(back[k], 99) << "wrote past the row";
  }
}

}  // namespace
}  // namespace sheaf::kernels
