#include "kernels/vector/layer_norm.h"

#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

TEST(LayerNorm, HandComputedValues) {
  // Mean 5, deviations -3, -1, 1, 3, variance 5: with eps 4 the root is 3.
  const std::vector<float> x = {2, 4, 6, 8};
  const std::vector<float> weight = {1, 3, 3, 0};
  const std::vector<float> bias = {0.5f, 0, 1, 7};
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> out(4);
    LayerNorm(x.data(), weight.data(), bias.data(), 4, 4.0f, out.data());
    EXPECT_FLOAT_EQ(out[0], -0.5f);
    EXPECT_FLOAT_EQ(out[1], -1.0f);
    EXPECT_FLOAT_EQ(out[2], 2.0f);
    EXPECT_FLOAT_EQ(out[3], 7.0f);
    // A constant row has no variance: eps keeps the division defined, the bias remains.
    const std::vector<float> constant(4, 3.0f);
    LayerNorm(constant.data(), weight.data(), bias.data(), 4, 1e-6f, out.data());
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out[i], bias[i]);
  });
}

TEST(LayerNorm, FollowsDoubleMathematicsAlsoFarFromZero) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const int n = 128;
  for (const float offset : {0.0f, 100.0f}) {
    std::vector<float> x = testing::RandomNormals(random, n, 2.0f);
    for (float& value : x) value += offset;
    const std::vector<float> weight = testing::RandomNormals(random, n);
    const std::vector<float> bias = testing::RandomNormals(random, n);
    std::vector<float> out(n);
    LayerNorm(x.data(), weight.data(), bias.data(), n, 1e-6f, out.data());
    double mean = 0, variance = 0;
    for (const float value : x) mean += value;
    mean /= n;
    for (const float value : x) variance += (value - mean) * (value - mean);
    const double inverse = 1.0 / std::sqrt(variance / n + 1e-6);
    for (int i = 0; i < n; ++i) {
      // The mean carries up to 13 roundings of 6e-8 times its size, which move every deviation.
      const double truth = (x[i] - mean) * inverse * weight[i] + bias[i];
      const double shift = 13 * 6e-8 * (std::fabs(mean) + 2) * inverse * std::fabs(weight[i]);
      ASSERT_NEAR(out[i], truth, shift + 20 * 6e-8 * (std::fabs(truth) + std::fabs(bias[i]))) << i;
    }
  }
}

TEST(LayerNorm, EveryTargetGivesTheReferenceBitsAlsoInPlace) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const size_t n : testing::kLengths) {
      testing::Misaligned<float> x(testing::RandomNormals(random, n, 3.0f));
      const testing::Misaligned<float> weight(testing::RandomNormals(random, n));
      const testing::Misaligned<float> bias(testing::RandomNormals(random, n));
      testing::Misaligned<float> out(n + 1);
      std::vector<float> expected(n);
      out[n] = 12345.0f;
      const int count = static_cast<int>(n);
      LayerNorm(x.data(), weight.data(), bias.data(), count, 1e-6f, out.data());
      ref::LayerNorm(x.data(), weight.data(), bias.data(), count, 1e-6f, expected.data());
      testing::ExpectSameBits(out, expected, n);
      EXPECT_EQ(out[n], 12345.0f) << "nothing is written behind the end";
      LayerNorm(x.data(), weight.data(), bias.data(), count, 1e-6f, x.data());
      testing::ExpectSameBits(x, expected, n);
    }
  });
}

}  // namespace
}  // namespace sheaf::kernels
