// What the emulator finds: each of these kernels has one mistake.
#include "kernels/cuda/emulation/emulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"

namespace sheaf::kernels::cuda {
namespace {

using emulation::Schedule;
using testing::HasSubstr;

constexpr Schedule kSchedules[] = {Schedule::kInOrder, Schedule::kReverse, Schedule::kRandom,
                                   Schedule::kWarpFirst};

alignas(16) float source[256];

absl::Status Emulate(const emulation::Options& options, const LaunchShape& shape,
                     const std::function<void()>& kernel) {
  return emulation::Run(options, shape, kernel);
}

void Exchange(float* y, bool barrier) {
  float* shared = reinterpret_cast<float*>(SharedMemory());
  shared[ThreadIndex()] = static_cast<float>(ThreadIndex());
  if (barrier) SyncBlock();
  y[ThreadIndex()] = shared[63 - ThreadIndex()];
}

TEST(EmulatorTest, ABarrierOrdersAndItsAbsenceIsSeen) {
  for (Schedule schedule : kSchedules) {
    for (bool barrier : {true, false}) {
      std::vector<float> y(64, -1);
      const absl::Status status =
          Emulate({.schedule = schedule}, {.threads = 64, .shared_bytes = 256},
                  [&] { Exchange(y.data(), barrier); });
      ASSERT_TRUE(status.ok()) << status;
      bool right = true;
      for (int i = 0; i < 64; ++i) right = right && y[i] == static_cast<float>(63 - i);
      EXPECT_EQ(right, barrier);  // without it, poison is read
    }
  }
}

TEST(EmulatorTest, ACopyIsThereAfterItsWaitOnly) {
  for (int i = 0; i < 256; ++i) source[i] = static_cast<float>(i);
  for (bool wait : {true, false}) {
    std::vector<float> y(32);
    const absl::Status status = Emulate({}, {.threads = 32, .shared_bytes = 1024}, [&] {
      unsigned char* mine = SharedMemory() + 16 * ThreadIndex();
      CopyAsync16(mine, source + 4 * ThreadIndex());
      CopyAsyncCommit();
      CopyAsync4(mine + 512, source + 7);
      CopyAsyncCommit();
      if (wait) CopyAsyncWait<1>();
      y[ThreadIndex()] = *reinterpret_cast<float*>(mine);
      EXPECT_TRUE(std::isnan(*reinterpret_cast<float*>(mine + 512)));
      CopyAsyncWait<0>();
      EXPECT_EQ(*reinterpret_cast<float*>(mine + 512), 7.0f);
    });
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(std::isnan(y[5]), !wait);
    if (wait) {
      EXPECT_EQ(y[5], 20.0f);
    }
  }
}

void CopyAndWait(unsigned char* to, const float* from) {
  CopyAsync16(to, from);
  CopyAsyncCommit();
  CopyAsyncWait<0>();
}

TEST(EmulatorTest, MistakesAreNamed) {
  const int odd = 1;
  const struct {
    const char* message;
    std::function<void()> kernel;
  } mistakes[] = {
      {"meets the one on line",
       [] {
         if (ThreadIndex() < 32) {
           SyncBlock();
         } else {
           SyncBlock();
         }
       }},
      {"deadlock: thread",
       [] {
         if (ThreadIndex() % 32 < 16) ShuffleXor(1, 1);
       }},
      {"deadlock: thread",
       [] {
         if (ThreadIndex() != 33) SyncWarp();
       }},
      {"misaligned", [] { CopyAndWait(SharedMemory() + 4 * ThreadIndex(), source); }},
      {"misaligned", [&] { CopyAndWait(SharedMemory() + 16 * ThreadIndex(), source + odd); }},
      {"outside shared memory", [] { CopyAndWait(SharedMemory() + 32 * ThreadIndex(), source); }},
      {"unfinished copies", [] { CopyAsync16(SharedMemory() + 16 * ThreadIndex(), source); }},
      {"meets",
       [] {
         if (ThreadIndex() % 2 == 0) {
           ShuffleXor(1, 2);
         } else {
           SyncWarp();
         }
       }},
  };
  for (const auto& mistake : mistakes) {
    for (Schedule schedule : kSchedules) {
      const absl::Status status =
          Emulate({.schedule = schedule}, {.threads = 64, .shared_bytes = 1024}, mistake.kernel);
      EXPECT_THAT(std::string(status.message()), HasSubstr(mistake.message));
    }
  }
}

#ifndef __SANITIZE_ADDRESS__
TEST(EmulatorTest, AWritePastSharedMemoryIsFound) {
  const absl::Status status = Emulate({}, {.blocks = 2, .threads = 32, .shared_bytes = 128}, [] {
    reinterpret_cast<float*>(SharedMemory())[ThreadIndex() + BlockIndex()] = 1;
  });
  EXPECT_THAT(std::string(status.message()), HasSubstr("past the end of shared memory [block 1]"));
}
#endif

TEST(EmulatorTest, LaunchesThatADeviceRefuses) {
  EXPECT_FALSE(Emulate({}, {.threads = 2048}, [] {}).ok());
  EXPECT_FALSE(Emulate({}, {.blocks = 0}, [] {}).ok());
  EXPECT_FALSE(Emulate({.shared_limit = 1000}, {.shared_bytes = 1001}, [] {}).ok());
  EXPECT_TRUE(Emulate({.shared_limit = 1000}, {.shared_bytes = 1000}, [] {}).ok());
}

// The fragments as the manual writes them, against the definition of the product.
TEST(EmulatorTest, TheTensorCoreTile) {
  int a[16][32], b[32][8];
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 32; ++j) a[i][j] = (i * 37 + j * 11) % 256;
  }
  for (int i = 0; i < 32; ++i) {
    for (int j = 0; j < 8; ++j) b[i][j] = (i * 29 + j * 53) % 256 - 128;
  }
  int32_t d[32][4];
  const absl::Status status = Emulate({}, {.threads = 32}, [&] {
    const int lane = ThreadIndex(), g = lane / 4, t = lane % 4;
    uint32_t fragment_a[4] = {}, fragment_b[2] = {};
    for (int byte = 0; byte < 4; ++byte) {
      for (int r = 0; r < 4; ++r) {
        fragment_a[r] |= uint32_t(a[g + r % 2 * 8][4 * t + byte + r / 2 * 16]) << (8 * byte);
      }
      for (int r = 0; r < 2; ++r) {
        fragment_b[r] |= uint32_t(b[4 * t + byte + r * 16][g] & 255) << (8 * byte);
      }
    }
    int32_t sums[4] = {1, 2, 3, 4};
    MultiplyTile(sums, fragment_a, fragment_b[0], fragment_b[1]);
    for (int i = 0; i < 4; ++i) d[lane][i] = sums[i];
  });
  ASSERT_TRUE(status.ok()) << status;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      int expected = i + 1;
      for (int k = 0; k < 32; ++k) {
        expected += a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2];
      }
      EXPECT_EQ(d[lane][i], expected) << lane << " " << i;
    }
  }
}

}  // namespace
}  // namespace sheaf::kernels::cuda
