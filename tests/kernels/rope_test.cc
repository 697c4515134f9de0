#include "kernels/attention/rope.h"

#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

TEST(Rope, HandComputedRotationOfHalfSplitPairs) {
  // rotary_dim 4, theta 100: frequencies 1 and 0.1. At position 1 the pair (0, 2) turns by 1
  // radian, (1, 3) by 0.1.
  const RopeTable table(3, 4, 100.0);
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> x = {1, 0, 0, 1, 42, 43};
    ApplyRope(x.data(), 1, 6, table, 1);
    EXPECT_FLOAT_EQ(x[0], 0.54030231f);
    EXPECT_FLOAT_EQ(x[2], 0.84147098f);
    EXPECT_FLOAT_EQ(x[1], -0.099833417f);
    EXPECT_FLOAT_EQ(x[3], 0.99500417f);
    EXPECT_EQ(x[4], 42.0f) << "dimensions past rotary_dim pass through";
    EXPECT_EQ(x[5], 43.0f);
    std::vector<float> same = {1, 2, 3, 4, 5, 6};
    ApplyRope(same.data(), 1, 6, table, 0);
    EXPECT_EQ(same, (std::vector<float>{1, 2, 3, 4, 5, 6})) << "position 0 is no rotation";
  });
}

TEST(Rope, HandComputedRotationOfInterleavedPairs) {
  // As above, but the pairs are (0, 1) and (2, 3).
  const RopeTable table(3, 4, 100.0);
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> x = {1, 0, 0, 1, 42, 43};
    ApplyRope(x.data(), 1, 6, table, 1, RopePairs::kInterleaved);
    EXPECT_FLOAT_EQ(x[0], 0.54030231f);
    EXPECT_FLOAT_EQ(x[1], 0.84147098f);
    EXPECT_FLOAT_EQ(x[2], -0.099833417f);
    EXPECT_FLOAT_EQ(x[3], 0.99500417f);
    EXPECT_EQ(x[4], 42.0f) << "dimensions past rotary_dim pass through";
    EXPECT_EQ(x[5], 43.0f);
  });
}

TEST(Rope, InterleavedIsHalfSplitOfReorderedDimensions) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const RopeTable table(100, 64, 10000.0);
  std::vector<float> x = testing::RandomNormals(random, 64), split(64);
  for (int j = 0; j < 32; ++j) {
    split[j] = x[2 * j];
    split[j + 32] = x[2 * j + 1];
  }
  ApplyRope(x.data(), 1, 64, table, 91, RopePairs::kInterleaved);
  ApplyRope(split.data(), 1, 64, table, 91);
  for (int j = 0; j < 32; ++j) {
    EXPECT_EQ(x[2 * j], split[j]);
    EXPECT_EQ(x[2 * j + 1], split[j + 32]);
  }
}

TEST(Rope, TheTableIsTheDoubleValueRoundedOnceAlsoFarOut) {
  const RopeTable table(202752, 64, 1e6);
  for (const int position : {0, 1, 4096, 131071, 202751}) {
    for (const int j : {0, 1, 17, 31}) {
      const double angle = position * std::pow(1e6, -2.0 * j / 64);
      EXPECT_EQ(table.cos(position)[j], static_cast<float>(std::cos(angle)));
      EXPECT_EQ(table.sin(position)[j], static_cast<float>(std::sin(angle)));
    }
  }
}

// Pair j of 8 dimensions turns 10^-j radians a position at theta 10000, so within 4096 positions
// 4096 / (2 pi 10^j) times: 651.9, 65.2, 6.52, 0.652.
RopeParameters Yarn() {
  return {.theta = 10000.0,
          .scaling = RopeScaling::kYarn,
          .factor = 4.0,
          .magnitude = 1.5,
          .original_positions = 4096};
}

void ExpectFrequencies(const RopeParameters& parameters, const std::vector<double>& wanted) {
  const std::vector<double> got = RopeFrequencies(8, parameters);
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t j = 0; j < got.size(); ++j) EXPECT_NEAR(got[j], wanted[j], 1e-6 * wanted[j]) << j;
}

TEST(Rope, HandComputedFrequenciesOfYarn) {
  // 32 turns are at pair log10(4096 / 64 pi) = 1.309, one turn at 2.814: the ramp goes from 1 to 3,
  // and pair 2 is half divided: 0.01 (1/2 + 1/8).
  ExpectFrequencies(Yarn(), {1.0, 0.1, 0.00625, 0.00025});
  RopeParameters exact = Yarn();
  exact.truncate = false;  // pair 2 is (2 - 1.30903) / 1.50515 = 0.459071 of the way
  ExpectFrequencies(exact, {1.0, 0.1, 0.00655697, 0.00025});
  RopeParameters early = Yarn();
  early.beta_fast = 1e6;  // before the first pair
  ExpectFrequencies(early, {1.0, 0.075, 0.005, 0.00025});
  RopeParameters none = Yarn();
  none.factor = 1.0;
  ExpectFrequencies(none, {1.0, 0.1, 0.01, 0.001});
}

TEST(Rope, YarnWhoseRampIsOnePairIsAStep) {
  RopeParameters step = Yarn();
  step.beta_slow = step.beta_fast;  // both at pair 1.309
  step.truncate = false;
  ExpectFrequencies(step, {1.0, 0.1, 0.0025, 0.00025});
}

TEST(Rope, LinearDividesEveryFrequency) {
  ExpectFrequencies({.theta = 10000.0, .scaling = RopeScaling::kLinear, .factor = 4.0},
                    {0.25, 0.025, 0.0025, 0.00025});
}

TEST(Rope, TheTableHasTheFrequenciesAndTheMagnitude) {
  const RopeTable table(5000, 8, Yarn());
  for (const int position : {0, 1, 77, 4999}) {
    EXPECT_EQ(table.cos(position)[1], static_cast<float>(std::cos(position * 0.1) * 1.5));
    EXPECT_FLOAT_EQ(table.sin(position)[2], static_cast<float>(std::sin(position * 0.00625) * 1.5));
  }
}

TEST(Rope, HandComputedMagnitudeOfYarn) {
  EXPECT_NEAR(YarnMagnitude(4.0, 1.0), 1.1386294361, 1e-10);
  EXPECT_NEAR(YarnMagnitude(40.0, 0.5), 1.1844439727, 1e-10);
  EXPECT_EQ(YarnMagnitude(1.0, 1.0), 1.0);
  EXPECT_EQ(YarnMagnitude(0.5, 1.0), 1.0);
}

TEST(Rope, ScoresDependOnTheDistanceAlone) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const RopeTable table(5000, 64, 1e6);
  const std::vector<float> q = testing::RandomNormals(random, 128);
  const std::vector<float> k = testing::RandomNormals(random, 128);
  const auto score = [&](int q_position, int k_position) {
    std::vector<float> a = q, b = k;
    ApplyRope(a.data(), 1, 128, table, q_position);
    ApplyRope(b.data(), 1, 128, table, k_position);
    double sum = 0;
    for (int i = 0; i < 128; ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
  };
  // Table entries and products carry a few units of 6e-8 each, 128 terms of size about 1.
  EXPECT_NEAR(score(10, 3), score(4907, 4900), 1e-4);
  EXPECT_GT(std::fabs(score(10, 3) - score(10, 4)), 1e-3);
}

TEST(Rope, EveryTargetGivesTheReferenceBits) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const auto& [rotary_dim, head_dim] :
         {std::pair{64, 128}, {2, 3}, {30, 37}, {32, 32}, {34, 40}, {128, 128}}) {
      const RopeTable table(100, rotary_dim, 10000.0);
      const int heads = 5;
      for (const RopePairs pairs : {RopePairs::kHalfSplit, RopePairs::kInterleaved}) {
        testing::Misaligned<float> x(testing::RandomNormals(random, heads * head_dim));
        std::vector<float> expected(x.data(), x.data() + x.size());
        ApplyRope(x.data(), heads, head_dim, table, 77, pairs);
        ref::ApplyRope(expected.data(), heads, head_dim, table, 77, pairs);
        testing::ExpectSameBits(x, expected, expected.size());
      }
    }
  });
}

}  // namespace
}  // namespace sheaf::kernels
