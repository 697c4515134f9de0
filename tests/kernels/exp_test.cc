#include "kernels/vector/exp.h"

#include <cfloat>
#include <cmath>
#include <limits>

#include "kernels/simd/lanes_ref.h"
#include "kernels/vector/log.h"
#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Exp, IsWithin1e7OfTheTruthOverItsWholeRange) {
  // 0.7 million values spread over all exponents: every 2001st float from the lowest to the highest
  // finite result.
  double worst = 0;
  for (uint32_t sign : {0u, 0x80000000u}) {
    for (uint32_t bits = 0x2F000000; bits < 0x42B20000; bits += 2001) {
      const float x = std::bit_cast<float>(bits | sign);
      const double truth = std::exp(static_cast<double>(x));
      if (truth > FLT_MAX || truth < FLT_MIN) continue;
      worst = std::max(worst, std::fabs(ref::Exp(x) - truth) / truth);
    }
  }
  EXPECT_LE(worst, 1e-7);
}

TEST(Exp, SpecialValuesAreTheSameOnEveryTarget) {
  const std::vector<float> x = {0.0f,       -0.0f,   kInf,       -kInf,      NAN,     88.72283f,
                                88.722847f, 1e30f,   -87.33654f, -87.33656f, -100.0f, -1e30f,
                                1e-40f,     -1e-40f, FLT_MAX,    -FLT_MAX};
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> y(x.size());
    Exp(x.data(), x.size(), y.data());
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(y[1], 1.0f);
    EXPECT_EQ(y[2], kInf);
    EXPECT_EQ(y[3], 0.0f);
    EXPECT_TRUE(std::isnan(y[4]));
    EXPECT_LT(y[5], kInf) << "the largest float whose exp is finite";
    EXPECT_GT(y[5], 3.402e38f);
    EXPECT_EQ(y[6], kInf);
    EXPECT_EQ(y[7], kInf);
    EXPECT_GE(y[8], FLT_MIN);
    EXPECT_EQ(y[9], 0.0f) << "no subnormal results";
    EXPECT_EQ(y[10], 0.0f);
    EXPECT_EQ(y[11], 0.0f);
    EXPECT_EQ(y[12], 1.0f);
    EXPECT_EQ(y[13], 1.0f);
    EXPECT_EQ(y[14], kInf);
    EXPECT_EQ(y[15], 0.0f);
  });
}

TEST(Exp, EveryTargetGivesTheReferenceBits) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const size_t n : testing::kLengths) {
      const testing::Misaligned<float> x(testing::RandomNormals(random, n, 40.0f));
      testing::Misaligned<float> y(n);
      std::vector<float> expected(n);
      Exp(x.data(), n, y.data());
      ref::Exp(x.data(), n, expected.data());
      testing::ExpectSameBits(y, expected, n);
    }
    // Raw bit patterns: all magnitudes, subnormals, infinities and NaNs.
    std::vector<float> x(4096), y(4096), expected(4096);
    for (float& value : x) value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    Exp(x.data(), x.size(), y.data());
    ref::Exp(x.data(), x.size(), expected.data());
    testing::ExpectSameBits(y, expected, x.size());
  });
}

TEST(Log, AgreesWithTheLibraryTo4UnitsInTheLastPlace) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 200000; ++i) {
    const double x = std::exp(std::uniform_real_distribution<double>(-80, 80)(random));
    const double truth = std::log(x);
    ASSERT_NEAR(Log(x), truth, 4 * DBL_EPSILON * std::max(std::fabs(truth), 1e-3)) << x;
  }
  EXPECT_EQ(Log(1.0), 0.0);
  EXPECT_EQ(Log(0.0), -std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace sheaf::kernels
