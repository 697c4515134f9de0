#include "kernels/experts/expert_gate.h"

#include <limits>
#include <algorithm>
#include <numeric>

#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Selection {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Selection Select(const std::vector<float>& logits, const ExpertGateParams& params, int rows = 1) {
  Selection result;
  result.ids.resize(rows * params.top_k, -7);
  result.weights.resize(rows * params.top_k);
  SelectExperts(logits.data(), rows, params, result.ids.data(), result.weights.data());
  return result;
}

// The logit whose sigmoid is p.
float Logit(double p) { return static_cast<float>(std::log(p / (1 - p))); }

TEST(ExpertGate, WeightsAreUnbiasedScoresNormalizedAndScaled) {
  testing::OnEveryTarget([&](const std::string&) {
    const std::vector<float> logits = {Logit(0.5), Logit(0.8), Logit(0.2), Logit(0.6)};
    const Selection plain =
        Select(logits, {.num_experts = 4, .top_k = 2, .normalize = true, .routed_scaling = 2.5f});
    EXPECT_EQ(plain.ids, (std::vector<int32_t>{1, 3}));
    EXPECT_NEAR(plain.weights[0], 2.5 * 0.8 / 1.4, 1e-6);
    EXPECT_NEAR(plain.weights[1], 2.5 * 0.6 / 1.4, 1e-6);

    // The bias decides the choice (expert 2 comes in) and is absent from the weights.
    const std::vector<float> bias = {0.0f, 0.0f, 0.7f, 0.0f};
    const Selection biased = Select(logits, {.num_experts = 4,
                                             .top_k = 2,
                                             .normalize = true,
                                             .routed_scaling = 1.0f,
                                             .correction_bias = bias.data()});
    EXPECT_EQ(biased.ids, (std::vector<int32_t>{1, 2}));
    EXPECT_NEAR(biased.weights[0], 0.8, 1e-6);
    EXPECT_NEAR(biased.weights[1], 0.2, 1e-6);

    const Selection raw = Select(logits, {.num_experts = 4, .top_k = 1, .normalize = false});
    EXPECT_EQ(raw.ids, (std::vector<int32_t>{1}));
    EXPECT_NEAR(raw.weights[0], 0.8, 1e-6);
  });
}

TEST(ExpertGate, TiesGoToTheLowestIdAndIdsAscend) {
  testing::OnEveryTarget([&](const std::string&) {
    EXPECT_EQ(Select(std::vector<float>(20, 0.25f), {.num_experts = 20, .top_k = 8}).ids,
              (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
    EXPECT_EQ(Select({1, 5, 3, 5, 5, 9}, {.num_experts = 6, .top_k = 3}).ids,
              (std::vector<int32_t>{1, 3, 5}));
  });
}

TEST(ExpertGate, GroupsOutsideTheBestAreDropped) {
  // Groups {0..2}, {3..5}, {6..8}; sums of the two largest sigmoids: 1.3, 1.2, 1.5. The best single
  // expert (0.95) is in the group that loses.
  const std::vector<float> logits = {Logit(0.7), Logit(0.6),  Logit(0.1),  Logit(0.95), Logit(0.25),
                                     Logit(0.1), Logit(0.75), Logit(0.75), Logit(0.3)};
  testing::OnEveryTarget([&](const std::string&) {
    ExpertGateParams params = {.num_experts = 9, .top_k = 2, .num_groups = 3, .topk_groups = 2};
    EXPECT_EQ(Select(logits, params).ids, (std::vector<int32_t>{6, 7}));
    params.top_k = 4;
    EXPECT_EQ(Select(logits, params).ids, (std::vector<int32_t>{0, 1, 6, 7}));
    params.topk_groups = 3;
    EXPECT_EQ(Select(logits, params).ids, (std::vector<int32_t>{0, 3, 6, 7}));
    // More wanted than the kept groups hold: still distinct ids in range.
    params.topk_groups = 1;
    EXPECT_EQ(Select(logits, params).ids, (std::vector<int32_t>{0, 6, 7, 8}));
  });
}

TEST(ExpertGate, ARowWithNaNGetsValidIdsAndNaNWeightsAndLeavesOtherRowsAlone) {
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> logits(3 * 5, 0.0f);
    logits[5 + 4] = NAN;
    logits[2] = kInf;
    logits[10 + 1] = -kInf;
    const Selection selection = Select(logits, {.num_experts = 5, .top_k = 2}, 3);
    EXPECT_EQ(selection.ids, (std::vector<int32_t>{0, 2, 0, 1, 0, 2}));
    EXPECT_NEAR(selection.weights[1], 2.0 / 3, 1e-6) << "sigmoid(infinity) is 1";
    EXPECT_TRUE(std::isnan(selection.weights[2]));
    EXPECT_TRUE(std::isnan(selection.weights[3]));
    EXPECT_EQ(selection.weights[4], 0.5f);
  });
}

TEST(ExpertGate, AllScoresZeroDoNotDivideByZero) {
  testing::OnEveryTarget([&](const std::string&) {
    const Selection selection =
        Select(std::vector<float>(4, -200.0f), {.num_experts = 4, .top_k = 2});
    EXPECT_EQ(selection.weights, (std::vector<float>{0.0f, 0.0f}));
  });
}

TEST(ExpertGate, ChoiceAndWeightsFollowDoubleMathematics) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    const int experts = 160;
    const std::vector<float> logits = testing::RandomNormals(random, experts, 2.0f);
    const std::vector<float> bias = testing::RandomNormals(random, experts, 0.1f);
    std::vector<double> s(experts), c(experts);
    for (int i = 0; i < experts; ++i) {
      s[i] = 1 / (1 + std::exp(-static_cast<double>(logits[i])));
      c[i] = s[i] + bias[i];
    }
    std::vector<int32_t> order(experts);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) { return c[a] > c[b]; });
    if (c[order[7]] - c[order[8]] < 1e-6) continue;  // too near for float32 to decide
    std::sort(order.begin(), order.begin() + 8);
    double sum = 0;
    for (int k = 0; k < 8; ++k) sum += s[order[k]];
    const Selection selection = Select(logits, {.num_experts = experts,
                                                .top_k = 8,
                                                .normalize = true,
                                                .routed_scaling = 2.5f,
                                                .correction_bias = bias.data()});
    for (int k = 0; k < 8; ++k) {
      ASSERT_EQ(selection.ids[k], order[k]);
      ASSERT_NEAR(selection.weights[k], 2.5 * s[order[k]] / sum, 1e-6 * 2.5 * s[order[k]] / sum);
    }
  }
}

TEST(ExpertGate, EveryTargetGivesTheReferenceBits) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const int experts : {8, 24, 96, 120, 129, 192, 256}) {
      for (const int groups : {1, 4}) {
        if (experts % groups != 0) continue;
        const int rows = 7;
        const std::vector<float> logits = testing::RandomNormals(random, rows * experts, 3.0f);
        const testing::Misaligned<float> bias(testing::RandomNormals(random, experts, 0.2f));
        const ExpertGateParams params = {.num_experts = experts,
                                         .top_k = 8,
                                         .num_groups = groups,
                                         .topk_groups = groups == 1 ? 1 : 2,
                                         .normalize = experts % 16 == 8,
                                         .routed_scaling = 2.5f,
                                         .correction_bias = experts == 96 ? nullptr : bias.data()};
        const Selection actual = Select(logits, params, rows);
        Selection expected = actual;
        ref::SelectExperts(logits.data(), rows, params, expected.ids.data(),
                           expected.weights.data());
        ASSERT_EQ(actual.ids, expected.ids) << experts << " experts, " << groups << " groups";
        testing::ExpectSameBits(actual.weights, expected.weights, actual.weights.size());
      }
    }
    for (const size_t n : testing::kLengths) {
      const testing::Misaligned<float> x(testing::RandomNormals(random, n));
      testing::Misaligned<float> y(testing::RandomNormals(random, n));
      std::vector<float> expected(y.data(), y.data() + n);
      ref::AddWeighted(x.data(), 0.3f, n, expected.data());
      AddWeighted(x.data(), 0.3f, n, y.data());
      testing::ExpectSameBits(y, expected, n);
    }
  });
}

}  // namespace
}  // namespace sheaf::kernels
