// The worker's engine with the real kernels, in the emulator: loaded, re-tiled, run in streams that are late.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cuda/emulated_expert_kernels.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/exchange/test_seed.h"

namespace sheaf::testing {
namespace {

class EmulatedExpertsTest : public ::testing::TestWithParam<TinyStorage> {};

TEST_P(EmulatedExpertsTest, TheBytesOfTheCpu) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  FakeGpu gpu(GetParam(), random);
  ThreadPool pool(1);
  const auto right_experts = FakeGpu::LoadLayer(gpu.cpu(), 1);
  const auto right = gpu.cpu().NewCompute(pool);
  for (int round = 0; round < 2; ++round) {
    FakeCudaOptions options;
    options.seed = random();
    const absl::Status made = gpu.MakeWith(
        [&](FakeCudaRuntime& runtime) { return MakeEmulatedKernels(runtime, random()); }, options,
        round == 0 ? uint64_t{4} << 20 : 0);
    ASSERT_TRUE(made.ok()) << made;
    const auto compute = gpu.engine().NewCompute(pool);
    {
      const auto experts = FakeGpu::LoadLayer(gpu.engine(), 1);
      for (const int tokens : {1, 5, 70}) {
        const FakeGpuBatch batch(random, tokens, gpu.config().hidden_size, 2, tokens == 5);
        std::vector<HeldExpertJob> jobs;
        std::vector<float> got(batch.floats(), -1);
        ASSERT_TRUE(compute->Submit(batch.Of(experts, tokens == 5, jobs)).ok());
        ASSERT_TRUE(compute->Complete(got.data()).ok());
        ASSERT_EQ(got, batch.Right(*right, right_experts)) << tokens << " tokens";
      }
    }
    EXPECT_THAT(gpu.runtime().violations(), ::testing::IsEmpty());
  }
}

// One graph, captured for the first batch of a size, with the rows, experts and plans of many.
TEST_P(EmulatedExpertsTest, AGraphServesEveryBatchOfItsSize) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  FakeGpu gpu(GetParam(), random);
  ThreadPool pool(1);
  const auto right_experts = FakeGpu::LoadLayer(gpu.cpu(), 1);
  const auto right = gpu.cpu().NewCompute(pool);
  FakeCudaOptions options;
  options.seed = random();
  const absl::Status made = gpu.MakeWith(
      [&](FakeCudaRuntime& runtime) { return MakeEmulatedKernels(runtime, random()); }, options);
  ASSERT_TRUE(made.ok()) << made;
  const auto experts = FakeGpu::LoadLayer(gpu.engine(), 1);
  const auto compute = gpu.engine().NewCompute(pool);
  for (int round = 0; round < 10; ++round) {
    // 17 to 32 tokens, 33 to 64 pairs, some on one expert alone: few and many rows of one.
    const FakeGpuBatch batch(random, 17 + static_cast<int>(random() % 16),
                             gpu.config().hidden_size, 2, random() % 2 == 0);
    std::vector<HeldExpertJob> jobs;
    std::vector<float> got(batch.floats(), -1);
    ASSERT_TRUE(compute->Submit(batch.Of(experts, random() % 2 == 0, jobs)).ok());
    ASSERT_TRUE(compute->Complete(got.data()).ok());
    ASSERT_EQ(got, batch.Right(*right, right_experts)) << "round " << round;
  }
  EXPECT_EQ(gpu.runtime().graph_launches(), 10);
  EXPECT_EQ(gpu.runtime().graphs(), 2) << "one for each set of buffers";
  EXPECT_THAT(gpu.runtime().violations(), ::testing::IsEmpty());
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
