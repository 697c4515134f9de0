#include "exchange/layer/local_expert_layer.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/vector/rms_norm.h"
#include "tests/exchange/random_experts.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

constexpr int kHidden = 256;
constexpr int kInner = 128;
constexpr int kExperts = 6;
constexpr int kTopK = 3;

std::vector<float> Sum(LocalExpertLayer& layer, const RandomBatch& batch,
                       const kernels::ExpertWeights* shared) {
  std::vector<float> sum(batch.sum_floats());
  EXPECT_TRUE(layer.Begin(batch.At(1)).ok());
  EXPECT_EQ(shared != nullptr && layer.TakeShared(*shared), shared != nullptr);
  EXPECT_TRUE(layer.Finish(sum.data()).ok());
  return sum;
}

TEST(LocalExpertLayer, TheSharedExpertIsAddedToTheSumLast) {
  const uint64_t seed = TestSeed();
  std::mt19937_64 random(seed);
  const RandomExperts experts(seed, 1, kExperts, kHidden, kInner);
  const RandomExperts others(seed + 1, 1, 1, kHidden, kInner);
  const kernels::ExpertWeights& shared = *others.weights(LayerId(0), ExpertId(0));
  for (const int num_threads : {1, 3}) {
    ThreadPool pool(num_threads);
    for (const int num_tokens : {1, 2, 20, 130}) {
      const RandomBatch batch(random, LayerId(0), num_tokens, kHidden, kExperts, kTopK);
      const kernels::QuantizedRows x = batch.At(1).x;
      LocalExpertLayer layer(experts, 1, kExperts, pool);
      std::vector<float> want = Sum(layer, batch, nullptr);
      for (int row = 0; row < num_tokens; ++row) {
        std::vector<float> made(kHidden);
        kernels::ref::RunExpert(x, {&shared, {&row, 1}, made.data()});
        kernels::AddInto(made.data(), kHidden, want.data() + size_t(row) * kHidden);
      }
      const auto what = [&](const char* way) {
        return testing::Message() << way << ", " << num_tokens << " tokens, " << num_threads
                                  << " threads, seed " << seed;
      };
      EXPECT_EQ(Sum(layer, batch, &shared), want) << what("at once");
      LocalExpertLayer parts(experts, 1, kExperts, pool, FrameElement::kFloat32, 7);
      EXPECT_EQ(Sum(parts, batch, &shared), want) << what("in parts");
      EXPECT_NE(Sum(layer, batch, nullptr), want) << what("the next batch has none");
    }
  }
}

TEST(LocalExpertLayer, WithInt16CombinesTheSharedExpertStaysAsItIs) {
  const uint64_t seed = TestSeed();
  std::mt19937_64 random(seed);
  const RandomExperts experts(seed, 1, kExperts, kHidden, kInner);
  const kernels::ExpertWeights& shared = *experts.weights(LayerId(0), ExpertId(0));
  ThreadPool pool(2);
  const RandomBatch batch(random, LayerId(0), 9, kHidden, kExperts, kTopK);
  LocalExpertLayer layer(experts, 1, kExperts, pool, FrameElement::kInt16Groups);
  std::vector<float> want = Sum(layer, batch, nullptr);
  for (int row = 0; row < 9; ++row) {
    std::vector<float> made(kHidden);
    kernels::ref::RunExpert(batch.At(1).x, {&shared, {&row, 1}, made.data()});
    kernels::AddInto(made.data(), kHidden, want.data() + size_t(row) * kHidden);
  }
  EXPECT_EQ(Sum(layer, batch, &shared), want) << "seed " << seed;
}

}  // namespace
}  // namespace sheaf
