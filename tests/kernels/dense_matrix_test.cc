#include "kernels/dense_matrix.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu_target.h"
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
