#include "kernels/vector/softmax.h"

#include <limits>
#include <algorithm>
#include <numeric>

#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Softmax, HandComputedValues) {
  const std::vector<float> x = {0.0f, std::log(2.0f), std::log(5.0f), -kInf};
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> out(4);
    Softmax(x.data(), 4, out.data());
    EXPECT_NEAR(out[0], 1.0 / 8, 3e-8);
    EXPECT_NEAR(out[1], 2.0 / 8, 6e-8);
    EXPECT_NEAR(out[2], 5.0 / 8, 1e-7);
    EXPECT_EQ(out[3], 0.0f);
    EXPECT_NEAR(LogSumExp(x.data(), 4), std::log(8.0), 3e-7);
    EXPECT_EQ(MaxOf(x.data(), 4), std::log(5.0f));
    const std::vector<float> big = {1e30f, 1e30f};
    EXPECT_EQ(LogSumExp(big.data(), 2), 1e30f) << "no overflow";
    const std::vector<float> nothing = {-kInf, -kInf};
    EXPECT_EQ(LogSumExp(nothing.data(), 2), -kInf);
    const std::vector<float> broken = {1.0f, NAN};
    EXPECT_TRUE(std::isnan(LogSumExp(broken.data(), 2)));
  });
}

TEST(Softmax, ArgMaxTakesTheLowestIndexAndSkipsNaNs) {
  testing::OnEveryTarget([&](const std::string&) {
    for (const size_t n : testing::kLengths) {
      std::vector<float> x(n, 1.0f);
      EXPECT_EQ(ArgMax(x.data(), n), 0);
      x[n / 2] = 2.0f;
      x[n - 1] = 2.0f;
      EXPECT_EQ(ArgMax(x.data(), n), static_cast<int64_t>(n / 2));
      std::fill(x.begin(), x.end(), NAN);
      EXPECT_EQ(ArgMax(x.data(), n), -1);
      x[n - 1] = -kInf;
      EXPECT_EQ(ArgMax(x.data(), n), static_cast<int64_t>(n - 1));
      EXPECT_EQ(MaxOf(x.data(), n), -kInf);
    }
  });
}

TEST(Softmax, TopIndexesEqualAFullSort) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    std::vector<float> x = testing::RandomNormals(random, 1300);
    for (float& value : x) value = std::round(value * 4);  // many ties
    std::vector<int32_t> order(x.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
    for (const int n : {0, 1, 2, 20, 1299, 1300, 5000}) {
      std::vector<int32_t> expected = order;
      expected.resize(std::min<size_t>(n, x.size()));
      ASSERT_EQ(TopIndexes(x.data(), x.size(), n), expected) << n;
    }
  }
  const std::vector<float> broken = {NAN, 1.0f, NAN, 3.0f};
  EXPECT_EQ(TopIndexes(broken.data(), 4, 3), (std::vector<int32_t>{3, 1}));
}

TEST(Softmax, EveryTargetGivesTheReferenceBitsAlsoInPlace) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const size_t n : testing::kLengths) {
      testing::Misaligned<float> x(testing::RandomNormals(random, n, 10.0f));
      if (n > 16) x[3] = -kInf;
      std::vector<float> expected(n), out(n);
      ref::Softmax(x.data(), n, expected.data());
      Softmax(x.data(), n, out.data());
      testing::ExpectSameBits(out, expected, n);
      EXPECT_EQ(LogSumExp(x.data(), n), ref::LogSumExp(x.data(), n));
      EXPECT_EQ(ArgMax(x.data(), n), ref::ArgMax(x.data(), n));
      Softmax(x.data(), n, x.data());
      testing::ExpectSameBits(x, expected, n);
    }
  });
}

TEST(Softmax, IsWithinItsErrorBoundOfDoubleMathematics) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const size_t n = 151552;
  const std::vector<float> x = testing::RandomNormals(random, n, 3.0f);
  std::vector<float> out(n);
  Softmax(x.data(), n, out.data());
  double max = -1e30, sum = 0;
  for (const float value : x) max = std::max<double>(max, value);
  for (const float value : x) sum += std::exp(value - max);
  // x - max: half a unit of |x - max| <= 32, 1e-6 in the exponent; the sum of 9472 terms a lane
  // adds up to 6e-4 in the worst case, roundings of random sign about a hundredth of that.
  for (size_t i = 0; i < n; ++i) {
    const double truth = std::exp(x[i] - max) / sum;
    ASSERT_NEAR(out[i], truth, 1e-5 * truth) << i;
  }
  EXPECT_NEAR(LogSumExp(x.data(), n), max + std::log(sum), 1e-5);
}

}  // namespace
}  // namespace sheaf::kernels
