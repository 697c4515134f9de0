#include "kernels/linear/dense_matrix.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/simd/cpu_target.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels {
namespace {

class DenseMatrixTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(ForceCpuTarget(GetParam()).ok()); }
  void TearDown() override { ASSERT_TRUE(ForceCpuTarget("auto").ok()); }
};

INSTANTIATE_TEST_SUITE_P(Targets, DenseMatrixTest, testing::ValuesIn(AvailableCpuTargets()),
                         [](const auto& param) { return param.param; });

TEST_P(DenseMatrixTest, WidensKnownHalves) {
  const std::vector<uint16_t> halves = {0x3c00, 0xc000, 0x0001, 0x8000,
                                        0x7bff, 0x7c00, 0xfc00, 0x03ff};
  std::vector<float> out(halves.size());
  WidenToFloat(halves.data(), FloatFormat::kF16, halves.size(), out.data());
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(out, (std::vector<float>{1, -2, 0x1p-24f, -0.0f, 65504, infinity, -infinity,
                                     1023 * 0x1p-24f}));
  EXPECT_TRUE(std::signbit(out[3]));
}

TEST_P(DenseMatrixTest, WidensKnownBf16) {
  const std::vector<uint16_t> halves = {0x3f80, 0xc000, 0x4049, 0x0001};
  std::vector<float> out(halves.size());
  WidenToFloat(halves.data(), FloatFormat::kBF16, halves.size(), out.data());
  EXPECT_EQ(out, (std::vector<float>{1, -2, 3.140625f, 0x1p-133f}));
}

// Codes of the format's definition: zeros, the smallest subnormal and the largest, the smallest
// normal, one, the largest value.
TEST_P(DenseMatrixTest, WidensKnownE4M3) {
  const std::vector<uint8_t> codes = {0x00, 0x80, 0x01, 0x87, 0x08, 0x38, 0xBC, 0x7E};
  std::vector<float> out(codes.size());
  WidenToFloat(codes.data(), FloatFormat::kE4M3, codes.size(), out.data());
  EXPECT_EQ(out,
            (std::vector<float>{0, -0.0f, 0x1p-9f, -7 * 0x1p-9f, 0x1p-6f, 1, -1.5f, 448}));
  EXPECT_TRUE(std::signbit(out[1]));
}

// A matrix [2][3] that begins at row 1, column 1 of blocks of 2 x 2.
TEST_P(DenseMatrixTest, ScalesEachBlockByHand) {
  const std::vector<uint8_t> codes = {0x38, 0x38, 0x40, 0xB8, 0x38, 0x01};
  const std::vector<float> scales = {0.5f, 3, 10, -1};
  const DenseMatrix w = {2, 3, FloatFormat::kE4M3, codes.data(), {scales.data(), 2, 2, 2, 1, 1}};
  std::vector<float> out(3);
  WidenRow(w, 0, 0, 3, out.data());
  EXPECT_EQ(out, (std::vector<float>{0.5f, 3, 6}));
  WidenRow(w, 1, 0, 3, out.data());
  EXPECT_EQ(out, (std::vector<float>{-10, -1, -0x1p-9f}));
  WidenRow(w, 1, 1, 2, out.data());
  EXPECT_EQ(out[0], -1);
}

// Rounded once, also where the product is subnormal or close to the largest float.
TEST_P(DenseMatrixTest, EveryE4M3CodeTimesAScaleIsTheFloatProduct) {
  std::vector<uint8_t> codes;
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7F) != 0x7F) codes.push_back(static_cast<uint8_t>(code));
  }
  std::vector<float> values(codes.size()), out(codes.size());
  ref::WidenToFloat(codes.data(), FloatFormat::kE4M3, codes.size(), values.data());
  const int count = static_cast<int>(codes.size());
  const float largest = std::numeric_limits<float>::max() / 448;
  for (float scale : {1.0f, 0.1f, -0.3f, 0x1.fffffep-3f, 0x1p-149f, 0x1.234568p-130f, largest}) {
    const DenseMatrix w = {1, count, FloatFormat::kE4M3, codes.data(),
                           {&scale, 1, count, 1, 0, 0}};
    WidenRow(w, 0, 0, count, out.data());
    for (int i = 0; i < count; ++i) ASSERT_EQ(BitsOf(out[i]), BitsOf(values[i] * scale)) << scale;
  }
}

TEST_P(DenseMatrixTest, EveryHalfAsTheReferenceAndNoWritePastTheEnd) {
  std::vector<uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), uint16_t{0});
  for (FloatFormat format : {FloatFormat::kF16, FloatFormat::kBF16}) {
    for (size_t count : {size_t{1}, size_t{15}, size_t{16}, size_t{33}, halves.size()}) {
      // From the end, so that counts that are no multiple of 16 also see the unusual exponents.
      const uint16_t* in = halves.data() + halves.size() - count;
      std::vector<float> out(count + 1, 7), expected(count);
      WidenToFloat(in, format, count, out.data());
      ref::WidenToFloat(in, format, count, expected.data());
      for (size_t i = 0; i < count; ++i) ASSERT_EQ(BitsOf(out[i]), BitsOf(expected[i])) << in[i];
      EXPECT_EQ(out[count], 7);
    }
  }
}

}  // namespace
}  // namespace sheaf::kernels
