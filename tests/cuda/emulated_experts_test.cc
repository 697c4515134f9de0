// The worker's engine with the real kernels, in the emulator: loaded, re-tiled, run in streams that
// are late.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cuda/emulated_expert_kernels.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/exchange/test_seed.h"

namespace sheaf::testing {
namespace {

class EmulatedExpertsTest : public ::testing::TestWithParam<TinyStorage> {
 protected:
  const uint64_t seed_ = TestSeed();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  FakeGpu gpu_{GetParam(), random_};
  ThreadPool pool_{1};
  const std::vector<HeldExpertPtr> right_experts_ = FakeGpu::LoadLayer(gpu_.cpu(), 1);
  const std::unique_ptr<ExpertCompute> right_ = gpu_.cpu().NewCompute(pool_);
};

TEST_P(EmulatedExpertsTest, TheBytesOfTheCpu) {
  for (int round = 0; round < 2; ++round) {
    FakeCudaOptions options;
    options.seed = random_();
    const absl::Status made = gpu_.MakeWith(
        [&](FakeCudaRuntime& runtime) { return MakeEmulatedKernels(runtime, random_()); }, options,
        round == 0 ? uint64_t{4} << 20 : 0);
    ASSERT_TRUE(made.ok()) << made;
    const auto compute = gpu_.engine().NewCompute(pool_);
    {
      const auto experts = FakeGpu::LoadLayer(gpu_.engine(), 1);
      for (const int tokens : {1, 5, 70}) {
        const FakeGpuBatch batch(random_, tokens, gpu_.config().hidden_size, 2, tokens == 5);
        std::vector<HeldExpertJob> jobs;
        std::vector<float> got(batch.floats(), -1);
        ASSERT_TRUE(compute->Submit(batch.Of(experts, tokens == 5, jobs)).ok());
        ASSERT_TRUE(compute->Complete(got.data()).ok());
        ASSERT_EQ(got, batch.Right(*right_, right_experts_)) << tokens << " tokens";
      }
    }
    EXPECT_THAT(gpu_.runtime().violations(), ::testing::IsEmpty());
  }
}

// One graph, captured for the first batch of a size, with the rows, experts and plans of many.
TEST_P(EmulatedExpertsTest, AGraphServesEveryBatchOfItsSize) {
  FakeCudaOptions options;
  options.seed = random_();
  const absl::Status made = gpu_.MakeWith(
      [&](FakeCudaRuntime& runtime) { return MakeEmulatedKernels(runtime, random_()); }, options);
  ASSERT_TRUE(made.ok()) << made;
  const auto experts = FakeGpu::LoadLayer(gpu_.engine(), 1);
  const auto compute = gpu_.engine().NewCompute(pool_);
  for (int round = 0; round < 10; ++round) {
    // 17 to 32 tokens, 33 to 64 pairs, some on one expert alone: few and many rows of one.
    const FakeGpuBatch batch(random_, 17 + static_cast<int>(random_() % 16),
                             gpu_.config().hidden_size, 2, random_() % 2 == 0);
    std::vector<HeldExpertJob> jobs;
    std::vector<float> got(batch.floats(), -1);
    ASSERT_TRUE(compute->Submit(batch.Of(experts, random_() % 2 == 0, jobs)).ok());
    ASSERT_TRUE(compute->Complete(got.data()).ok());
    ASSERT_EQ(got, batch.Right(*right_, right_experts_)) << "round " << round;
  }
  EXPECT_EQ(gpu_.runtime().graph_launches(), 10);
  EXPECT_EQ(gpu_.runtime().graphs(), 2) << "one for each set of buffers";
  EXPECT_THAT(gpu_.runtime().violations(), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Storages, EmulatedExpertsTest,
                         ::testing::Values(TinyStorage::kGptq, TinyStorage::kPackQuantized));

TEST(EmulatedExperts, FloatsHaveNoKernels) {
  std::mt19937_64 random(TestSeed());
  FakeGpu gpu(TinyStorage::kBf16, random);
  const absl::Status made = gpu.MakeWith(
      [](FakeCudaRuntime& runtime) { return MakeEmulatedKernels(runtime, 1); }, {});
  EXPECT_EQ(made.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(made.message()),
              ::testing::HasSubstr("stored as floats: CUDA kernels are for 4-bit experts"));
}

}  // namespace
}  // namespace sheaf::testing
