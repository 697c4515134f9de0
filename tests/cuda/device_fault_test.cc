// What goes wrong with a GPU: one clear line each, the statuses that a worker knows what to do
// with.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cuda/fake_gpu.h"
#include "tests/exchange/test_seed.h"

namespace sheaf::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class DeviceFaultTest : public ::testing::Test {
 protected:
  void ExpectRefused(const FakeCudaOptions& options, absl::StatusCode code, const char* line,
                     uint64_t memory_bytes = 0, int ordinal = 0) {
    const absl::Status status = gpu_.Make(options, memory_bytes, {}, ordinal);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(line), Not(HasSubstr("\n"))));
  }

  const uint64_t seed_ = TestSeed();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  FakeGpu gpu_{TinyStorage::kGptq, random_};
};

TEST_F(DeviceFaultTest, NoDriverAnOldOneNoDeviceAnotherArchitecture) {
  FakeCudaOptions none;
  none.driver_version = 0;
  ExpectRefused(none, absl::StatusCode::kFailedPrecondition,
                "cuda:0: there is no CUDA driver on this machine");
  FakeCudaOptions old;
  old.driver_version = 12080;
  ExpectRefused(old, absl::StatusCode::kFailedPrecondition,
                "cuda:0: the driver is too old: wanted one for CUDA 13, got one for CUDA 12.8");
  FakeCudaOptions older_minor;
  older_minor.runtime_version = 13020;
  EXPECT_TRUE(gpu_.Make(older_minor).ok());
  FakeCudaOptions empty;
  empty.devices = 0;
  ExpectRefused(empty, absl::StatusCode::kFailedPrecondition,
                "cuda:0: there is no CUDA device on this machine");
  ExpectRefused({}, absl::StatusCode::kInvalidArgument,
                "cuda:3: wanted one of this machine's 1 CUDA devices, cuda:0 to cuda:0", 0, 3);
  FakeCudaOptions pascal;
  pascal.architecture = {6, 1};
  ExpectRefused(pascal, absl::StatusCode::kFailedPrecondition,
                "cuda:0 (fake GPU): compute capability: this build has kernels for 8.0, 9.0, got "
                "6.1");
}

TEST_F(DeviceFaultTest, TooLittleMemoryIsFoundByThePlan) {
  FakeCudaOptions options;
  options.free_bytes = size_t{200} << 10;
  ExpectRefused(options, absl::StatusCode::kResourceExhausted,
                "cuda:0 (fake GPU): no expert fits: wanted ");
  ExpectRefused(
      {}, absl::StatusCode::kResourceExhausted,
      "cuda:0 (fake GPU): --memory-bytes: wanted 1024.0 MiB, got 60.0 MiB free of 64.0 MiB",
      uint64_t{1} << 30);
  ExpectRefused({}, absl::StatusCode::kResourceExhausted, "(--memory-bytes)", 1000);
}

TEST_F(DeviceFaultTest, AStorageWithoutKernels) {
  FakeGpu floats(TinyStorage::kBf16, random_);
  const absl::Status status = floats.Make({}, 0, {.floats = false});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("cuda:0 (fake GPU): layer 1 expert 0: float weights have no kernel"));
}

TEST_F(DeviceFaultTest, AnExpertThatTheBuffersAreNotFor) {
  ASSERT_TRUE(gpu_.Make({}, 0, {.permuted_from = 2}).ok());
  const absl::Status status = gpu_.engine().Load(PairOf(1, 3), 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("cuda:0 (fake GPU): layer 1 expert 3: its inputs have an order of their own"));
  EXPECT_TRUE(gpu_.Make({}, 0, {.permuted_from = 1}).ok());
  EXPECT_TRUE(gpu_.engine().Load(PairOf(1, 3), 0).ok());
}

// An ECC error or the like at any operation of loading or computing: said once, with what it was
// for, and nothing after it succeeds or is asked of the device.
TEST_F(DeviceFaultTest, ADeviceLostAtAnyMomentIsSaidOnce) {
  ThreadPool pool(1);
  const FakeGpuBatch batch(random_, 40, gpu_.config().hidden_size, 2);
  bool lost_while_loading = false, lost_while_computing = false, never_lost = false;
  for (uint64_t lose_at = 1; !never_lost; ++lose_at) {
    ASSERT_LT(lose_at, 1000u);
    FakeCudaOptions options;
    options.seed = seed_;
    options.lose_at = lose_at;
    options.lose_with =
        lose_at % 2 == 0 ? CudaError::kEccUncorrectable : CudaError::kLaunchFailure;
    ASSERT_TRUE(gpu_.Make(options, uint64_t{1} << 20).ok());
    std::vector<absl::Status> told;
    gpu_.engine().WatchForLoss([&](const absl::Status& why) { told.push_back(why); });
    absl::Status first;
    std::vector<HeldExpertPtr> experts;
    for (int expert = 0; first.ok() && expert < kFakeGpuExperts; ++expert) {
      auto loaded = gpu_.engine().Load(PairOf(1, expert), 0);
      first = loaded.status();
      if (loaded.ok()) experts.push_back(*std::move(loaded));
    }
    lost_while_loading = lost_while_loading || !first.ok();
    const auto compute = gpu_.engine().NewCompute(pool);
    if (first.ok()) {
      for (int i = 0; first.ok() && i < 2; ++i) {
        std::vector<HeldExpertJob> jobs;
        std::vector<float> out(batch.floats());
        first = compute->Submit(batch.Of(experts, false, jobs));
        if (first.ok()) first = compute->Complete(out.data());
      }
      lost_while_computing = lost_while_computing || !first.ok();
    }
    if (first.ok()) {
      never_lost = true;
      EXPECT_THAT(told, IsEmpty());
      continue;
    }
    EXPECT_EQ(first.code(), absl::StatusCode::kUnavailable) << first;
    const std::string line(first.message());
    EXPECT_THAT(line, AllOf(StartsWith("cuda:0 (fake GPU): "), HasSubstr(" for layer 1"),
                            HasSubstr("; the device is lost"), Not(HasSubstr("\n"))));
    EXPECT_THAT(line, HasSubstr(lose_at % 2 == 0 ? "uncorrectable ECC error encountered (214)"
                                                 : "unspecified launch failure (719)"));
    ASSERT_EQ(told.size(), 1u) << lose_at;
    EXPECT_EQ(told[0], first);
    const uint64_t operations = gpu_.runtime().operations();
    EXPECT_EQ(gpu_.engine().Load(PairOf(2, 0), 0).status(), first);
    std::vector<HeldExpertJob> jobs;
    EXPECT_EQ(compute->Submit(batch.Of({}, false, jobs)), first);
    EXPECT_EQ(gpu_.runtime().operations(), operations);
    EXPECT_EQ(told.size(), 1u);
    // A late watcher hears of it, too.
    gpu_.engine().WatchForLoss([&](const absl::Status& why) { told.push_back(why); });
    EXPECT_EQ(told.size(), 2u);
    gpu_.engine().WatchForLoss({});
  }
  EXPECT_TRUE(lost_while_loading);
  EXPECT_TRUE(lost_while_computing);
}

TEST_F(DeviceFaultTest, WithoutCudaTheLineSaysSo) {
  const absl::Status status = FindCuda().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "this build of sheaf has no CUDA: wanted --device cpu");
}

}  // namespace
}  // namespace sheaf::testing
