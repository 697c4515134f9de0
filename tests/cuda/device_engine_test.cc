// Experts in a fake GPU's memory: the bytes of the CPU's engine, in whatever order the streams run,
// with batches of many parts, two under way, experts that come and go meanwhile; and memory that
// goes back.

#include "worker/device/device_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <thread>

#include "tests/cuda/fake_gpu.h"
#include "tests/exchange/test_seed.h"

namespace sheaf::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// So small that a part is a few tokens.
constexpr uint64_t kSmallMemory = uint64_t{4} << 20;

class DeviceEngineTest : public ::testing::TestWithParam<TinyStorage> {
 protected:
  const uint64_t seed_ = TestSeed();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
};

TEST_P(DeviceEngineTest, TheBytesOfTheCpuInWhateverOrderTheStreamsRun) {
  FakeGpu gpu(GetParam(), random_);
  ThreadPool pool(2);
  const auto right_experts = FakeGpu::LoadLayer(gpu.cpu(), 1);
  const auto right = gpu.cpu().NewCompute(pool);
  for (int round = 0; round < 6; ++round) {
    FakeCudaOptions options;
    options.seed = random_();
    ASSERT_TRUE(gpu.Make(options, round % 2 == 0 ? kSmallMemory : 0).ok());
    const auto compute = gpu.engine().NewCompute(pool);
    {
      const auto experts = FakeGpu::LoadLayer(gpu.engine(), 1);
      for (const int tokens : {1, 16, 33, 150}) {
        const FakeGpuBatch batch(random_, tokens, gpu.config().hidden_size, 1 + round % 4,
                                 /*skew=*/round % 3 == 0);
        std::vector<HeldExpertJob> jobs;
        std::vector<float> got(batch.floats(), -1);
        ASSERT_TRUE(compute->Submit(batch.Of(experts, round % 2 == 0, jobs)).ok());
        ASSERT_TRUE(compute->Complete(got.data()).ok());
        ASSERT_EQ(got, batch.Right(*right, right_experts)) << tokens << " tokens, round " << round;
      }
    }
    EXPECT_THAT(gpu.runtime().violations(), IsEmpty());
  }
}

TEST_P(DeviceEngineTest, TwoBatchesUnderWayAndAbandonedOnes) {
  FakeGpu gpu(GetParam(), random_);
  ThreadPool pool(1);
  const auto right_experts = FakeGpu::LoadLayer(gpu.cpu(), 1);
  const auto right = gpu.cpu().NewCompute(pool);
  struct Asked {
    explicit Asked(std::mt19937_64& random, int tokens, int hidden)
        : batch(random, tokens, hidden, 2) {}
    const FakeGpuBatch batch;
    std::vector<HeldExpertJob> jobs;
  };
  for (int round = 0; round < 4; ++round) {
    FakeCudaOptions options;
    options.seed = random_();
    ASSERT_TRUE(gpu.Make(options, kSmallMemory).ok());
    const auto experts = FakeGpu::LoadLayer(gpu.engine(), 1);
    const auto compute = gpu.engine().NewCompute(pool);
    ASSERT_EQ(compute->depth(), 2);
    std::deque<std::unique_ptr<Asked>> under_way;
    for (int i = 0; i < 12; ++i) {
      if (under_way.size() == 2) {
        Asked& oldest = *under_way.front();
        if (random_() % 4 == 0) {
          compute->Abandon();
        } else {
          std::vector<float> got(oldest.batch.floats(), -1);
          ASSERT_TRUE(compute->Complete(got.data()).ok());
          ASSERT_EQ(got, oldest.batch.Right(*right, right_experts)) << "batch " << i;
        }
        under_way.pop_front();
      }
      under_way.push_back(std::make_unique<Asked>(random_, 1 + static_cast<int>(random_() % 100),
                                                  gpu.config().hidden_size));
      Asked& newest = *under_way.back();
      ASSERT_TRUE(compute->Submit(newest.batch.Of(experts, true, newest.jobs)).ok());
    }
    EXPECT_THAT(gpu.runtime().violations(), IsEmpty());
    // What is under way when the compute goes is waited for.
  }
}

// Decode's sizes are launched as graphs, captured once a size and set of buffers, whatever the
// batches are.
TEST_P(DeviceEngineTest, SmallBatchesAreGraphs) {
  FakeGpu gpu(GetParam(), random_);
  ThreadPool pool(1);
  const auto right_experts = FakeGpu::LoadLayer(gpu.cpu(), 1);
  const auto right = gpu.cpu().NewCompute(pool);
  FakeCudaOptions options;
  options.seed = random_();
  ASSERT_TRUE(gpu.Make(options).ok());
  const auto experts = FakeGpu::LoadLayer(gpu.engine(), 1);
  {
    const auto compute = gpu.engine().NewCompute(pool);
    const auto run = [&](int tokens, int top_k) {
      const FakeGpuBatch batch(random_, tokens, gpu.config().hidden_size, top_k);
      std::vector<HeldExpertJob> jobs;
      std::vector<float> got(batch.floats(), -1);
      ASSERT_TRUE(compute->Submit(batch.Of(experts, random_() % 2 == 0, jobs)).ok());
      ASSERT_TRUE(compute->Complete(got.data()).ok());
      ASSERT_EQ(got, batch.Right(*right, right_experts)) << tokens << " tokens to " << top_k;
    };
    // 5 to 8 tokens, 15 to 24 pairs: 8, and 16 or 32
    for (int i = 0; i < 6; ++i) run(5 + i % 4, 3);
    EXPECT_LE(gpu.runtime().graphs(), 4) << "two sizes, two sets of buffers";
    EXPECT_EQ(gpu.runtime().graph_launches(), 6);
    for (const int tokens : {1, 2, 3, 64, 63, 1, 17, 5}) run(tokens, 2);
    EXPECT_EQ(gpu.runtime().graph_launches(), 14);
    run(65, 2);
    run(150, 3);
    EXPECT_EQ(gpu.runtime().graph_launches(), 14) << "more tokens are none";
    for (int i = 0; i < 10; ++i)
      run(1 + static_cast<int>(random_() % 80), 1 + static_cast<int>(random_() % 4));
  }
  EXPECT_EQ(gpu.runtime().graphs(), 0) << "given back with the compute";
  EXPECT_THAT(gpu.runtime().violations(), IsEmpty());
}

// Whoever lets go of the experts then gives their memory to others.
TEST_P(DeviceEngineTest, ABatchThatHasEndedIsNotReadAnyMore) {
  FakeGpu gpu(GetParam(), random_);
  ThreadPool pool(1);
  const FakeGpuBatch batch(random_, 120, gpu.config().hidden_size, 2);
  std::vector<HeldExpertJob> jobs;
  std::vector<float> out(batch.floats());
  for (int round = 0; round < 4; ++round) {
    FakeCudaOptions options;
    options.seed = random_();
    ASSERT_TRUE(gpu.Make(options, kSmallMemory).ok());
    auto experts = FakeGpu::LoadLayer(gpu.engine(), 1);
    EXPECT_EQ(gpu.runtime().queued(), 0u) << "after loading";
    {
      const auto compute = gpu.engine().NewCompute(pool);
      ASSERT_TRUE(compute->Submit(batch.Of(experts, true, jobs)).ok());
      compute->Abandon();
      EXPECT_EQ(gpu.runtime().queued(), 0u) << "abandoned";
      ASSERT_TRUE(compute->Submit(batch.Of(experts, true, jobs)).ok());
      ASSERT_TRUE(compute->Complete(out.data()).ok());
      EXPECT_EQ(gpu.runtime().queued(), 0u) << "completed";
      ASSERT_TRUE(compute->Submit(batch.Of(experts, true, jobs)).ok());
    }
    EXPECT_EQ(gpu.runtime().queued(), 0u) << "the compute has gone";
  }
}

TEST_P(DeviceEngineTest, ABatchWithoutPairsIsAnsweredAtOnce) {
  FakeGpu gpu(GetParam(), random_);
  ThreadPool pool(1);
  ASSERT_TRUE(gpu.Make({}).ok());
  const auto compute = gpu.engine().NewCompute(pool);
  const FakeGpuBatch batch(random_, 3, gpu.config().hidden_size, 1);
  std::vector<HeldExpertJob> jobs;
  ExpertBatch none = batch.Of({}, false, jobs);
  EXPECT_TRUE(compute->Submit(none).ok());
  EXPECT_TRUE(compute->Complete(nullptr).ok());
}

INSTANTIATE_TEST_SUITE_P(Storages, DeviceEngineTest,
                         ::testing::Values(TinyStorage::kGptq, TinyStorage::kPackQuantized,
                                           TinyStorage::kBf16, TinyStorage::kFusedF32));

class DeviceMemoryTest : public ::testing::Test {
 protected:
  const uint64_t seed_ = TestSeed();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  FakeGpu gpu_{TinyStorage::kGptq, random_};
};

TEST_F(DeviceMemoryTest, WhatIsLetGoGoesBackAndEverythingGoesBackWithTheEngine) {
  ASSERT_TRUE(gpu_.Make({}, kSmallMemory).ok());
  EXPECT_LE(gpu_.runtime().allocated_bytes(), kSmallMemory);
  const size_t slots = gpu_.engine().memory_bytes() / gpu_.engine().expert_bytes();
  ASSERT_GE(slots, 2u);
  std::vector<HeldExpertPtr> held;
  for (size_t i = 0; i < 3 * slots; ++i) {
    auto loaded =
        gpu_.engine().Load(PairOf(1 + static_cast<int>(i % 2), static_cast<int>(i % 6)), 0);
    if (held.size() == slots) {
      ASSERT_EQ(loaded.status().code(), absl::StatusCode::kResourceExhausted);
      EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("cuda:0 (fake GPU): layer "));
      EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("of device memory, got "));
      held.erase(held.begin() + static_cast<ptrdiff_t>(random_() % held.size()));
      continue;
    }
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ((*loaded)->resident_bytes(), gpu_.engine().expert_bytes());
    held.push_back(*std::move(loaded));
  }
  held.clear();
  EXPECT_TRUE(gpu_.engine().Load(PairOf(1, 0), 0).ok());
  EXPECT_THAT(gpu_.runtime().violations(), IsEmpty());
}

TEST_F(DeviceMemoryTest, ExpertsComeAndGoWhileOthersCompute) {
  FakeCudaOptions options;
  options.seed = random_();
  ASSERT_TRUE(gpu_.Make(options, kSmallMemory, {}, 0, /*lanes=*/2).ok());
  ThreadPool pool(1);
  const auto right_experts = FakeGpu::LoadLayer(gpu_.cpu(), 1);
  const auto right = gpu_.cpu().NewCompute(pool);
  const auto experts = FakeGpu::LoadLayer(gpu_.engine(), 1);
  struct Lanes {
    ~Lanes() {
      enough.store(true);
      for (std::thread& thread : threads) thread.join();
    }
    std::atomic<bool> enough{false};
    std::atomic<int> loads{0};
    std::vector<std::thread> threads;
  };
  {
    Lanes lanes;
    for (int lane = 0; lane < 2; ++lane) {
      lanes.threads.emplace_back([&, lane] {
        for (int i = 0; !lanes.enough.load(); ++i) {
          const auto loaded = gpu_.engine().Load(PairOf(2, i % kFakeGpuExperts), lane);
          EXPECT_TRUE(loaded.ok()) << loaded.status();
          ++lanes.loads;
        }
      });
    }
    const auto compute = gpu_.engine().NewCompute(pool);
    for (int round = 0; round < 20 || lanes.loads.load() < 20; ++round) {
      const FakeGpuBatch batch(random_, 1 + static_cast<int>(random_() % 40),
                               gpu_.config().hidden_size, 2);
      std::vector<HeldExpertJob> jobs;
      std::vector<float> got(batch.floats(), -1);
      ASSERT_TRUE(compute->Submit(batch.Of(experts, false, jobs)).ok());
      ASSERT_TRUE(compute->Complete(got.data()).ok());
      EXPECT_EQ(got, batch.Right(*right, right_experts)) << "round " << round;
    }
  }
  EXPECT_THAT(gpu_.runtime().violations(), IsEmpty());
}

}  // namespace
}  // namespace sheaf::testing
