// That the watched emulator does report races: in a child process, which ThreadSanitizer ends.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/emulation/emulator.h"

namespace sheaf::kernels::cuda {
namespace {

// Ends the process: 0 for a kernel without races, ThreadSanitizer's code otherwise.
void RunAndExit(int blocks, const std::function<void()>& kernel) {
  const absl::Status status =
      emulation::Run({.schedule = emulation::Schedule::kInOrder},
                     {.blocks = blocks, .threads = 64, .shared_bytes = 512}, kernel);
  std::_Exit(status.ok() ? 0 : 1);
}

float* Shared() { return reinterpret_cast<float*>(SharedMemory()); }

TEST(RacesTest, ReadsAfterWritesAndWritesAfterReads) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  std::vector<float> y(128);
  const auto exchange = [&](bool before, bool after) {
    Shared()[ThreadIndex()] = 1;
    if (before) SyncBlock();
    y[ThreadIndex()] = Shared()[63 - ThreadIndex()];
    if (after) SyncBlock();
    Shared()[ThreadIndex()] = 2;
  };
  EXPECT_EXIT(RunAndExit(1, [&] { exchange(true, true); }), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(RunAndExit(1, [&] { exchange(false, true); }), testing::ExitedWithCode(66),
              "data race");
  EXPECT_EXIT(RunAndExit(1, [&] { exchange(true, false); }), testing::ExitedWithCode(66),
              "data race");
}

TEST(RacesTest, AShuffleOrdersNothingAWarpBarrierDoes) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  std::vector<float> y(64);
  const auto exchange = [&](bool barrier) {
    Shared()[ThreadIndex()] = 1;
    ShuffleXor(1, 1);
    if (barrier) SyncWarp();
    y[ThreadIndex()] = Shared()[ThreadIndex() ^ 1];
  };
  EXPECT_EXIT(RunAndExit(1, [&] { exchange(true); }), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(RunAndExit(1, [&] { exchange(false); }), testing::ExitedWithCode(66), "data race");
}

TEST(RacesTest, BlocksAreOrderedByTheEndOfTheKernelAlone) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  std::vector<float> y(128);
  EXPECT_EXIT(RunAndExit(2, [&] { y[BlockIndex() * 64 + ThreadIndex()] = 1; }),
              testing::ExitedWithCode(0), "");
  EXPECT_EXIT(RunAndExit(2, [&] { y[ThreadIndex()] += 1; }), testing::ExitedWithCode(66),
              "data race");
  const auto after_barriers = [&] {
    SyncWarp();
    SyncBlock();
    SyncBlock();
    y[ThreadIndex()] = 1;
  };
  EXPECT_EXIT(RunAndExit(3, after_barriers), testing::ExitedWithCode(66), "data race");
}

TEST(RacesTest, ACopyIsSeenByItsOwnThreadAlone) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  alignas(16) static float source[64] = {};
  std::vector<float> y(64);
  const auto copy = [&](bool barrier) {
    if (ThreadIndex() < 16) CopyAsync16(Shared() + 4 * ThreadIndex(), source + 4 * ThreadIndex());
    CopyAsyncCommit();
    CopyAsyncWait<0>();
    if (barrier) SyncBlock();
    y[ThreadIndex()] = Shared()[ThreadIndex()];
  };
  EXPECT_EXIT(RunAndExit(1, [&] { copy(true); }), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(RunAndExit(1, [&] { copy(false); }), testing::ExitedWithCode(66), "data race");
}

}  // namespace
}  // namespace sheaf::kernels::cuda
