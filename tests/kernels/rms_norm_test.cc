#include "kernels/vector/rms_norm.h"

#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

TEST(RmsNorm, HandComputedValues) {
  // mean(3^2, 4^2, 0, 0) = 6.25, root 2.5.
  const std::vector<float> x = {3, 4, 0, 0};
  const std::vector<float> weight = {1, 0.5f, 7, 1};
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> out(4);
    RmsNorm(x.data(), 4, weight.data(), 1, 4, 0.0f, out.data(), 4);
    EXPECT_FLOAT_EQ(out[0], 1.2f);
    EXPECT_FLOAT_EQ(out[1], 0.8f);
    EXPECT_EQ(out[2], 0.0f);
    EXPECT_EQ(out[3], 0.0f);
    // eps dominates a zero row: no division by zero.
    const std::vector<float> zeros(4);
    RmsNorm(zeros.data(), 4, weight.data(), 1, 4, 1e-5f, out.data(), 4);
    for (const float value : out) EXPECT_EQ(value, 0.0f);
  });
}

TEST(RmsNorm, IsWithinItsErrorBoundOfDoubleMathematics) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const int n = 5120;
  const std::vector<float> x = testing::RandomNormals(random, n, 3.0f);
  const std::vector<float> weight = testing::RandomNormals(random, n);
  std::vector<float> out(n);
  RmsNorm(x.data(), n, weight.data(), 1, n, 1e-5f, out.data(), n);
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * value;
  const double inverse = 1.0 / std::sqrt(sum / n + 1e-5);
  for (int i = 0; i < n; ++i) {
    // The sum: at most 320 + 4 roundings of positive terms, halved by the root; then five
    // roundings.
    const double truth = x[i] * inverse * weight[i];
    ASSERT_NEAR(out[i], truth, (324 / 2 + 5) * 6e-8 * std::fabs(truth)) << i;
  }
}

TEST(RmsNorm, EveryTargetGivesTheReferenceBitsWithStridesAndInPlace) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const size_t n : testing::kLengths) {
      const int rows = 3;
      const size_t x_stride = n + 5, out_stride = n + 2;
      testing::Misaligned<float> x(testing::RandomNormals(random, rows * x_stride));
      const testing::Misaligned<float> weight(testing::RandomNormals(random, n));
      testing::Misaligned<float> out(rows * out_stride);
      std::vector<float> expected(rows * out_stride);
      RmsNorm(x.data(), x_stride, weight.data(), rows, n, 1e-5f, out.data(), out_stride);
      ref::RmsNorm(x.data(), x_stride, weight.data(), rows, n, 1e-5f, expected.data(), out_stride);
      testing::ExpectSameBits(out, expected, expected.size());  // also: nothing between the rows
      RmsNorm(x.data(), x_stride, weight.data(), rows, n, 1e-5f, x.data(), x_stride);
      for (int row = 0; row < rows; ++row) {
        testing::ExpectSameBits(x.data() + row * x_stride, expected.data() + row * out_stride, n);
      }
    }
  });
}

TEST(AddInto, AddsElementByElement) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const size_t n : testing::kLengths) {
      const testing::Misaligned<float> x(testing::RandomNormals(random, n));
      testing::Misaligned<float> y(testing::RandomNormals(random, n));
      std::vector<float> expected(n);
      for (size_t i = 0; i < n; ++i) expected[i] = y[i] + x[i];
      AddInto(x.data(), n, y.data());
      testing::ExpectSameBits(y, expected, n);
    }
  });
}

}  // namespace
}  // namespace sheaf::kernels
