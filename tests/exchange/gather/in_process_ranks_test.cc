// A group of ranks that are threads: everybody gets every part, and nobody waits for ever.
#include "tests/exchange/gather/in_process_ranks.h"

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string Joined(RankGroup::Parts parts) {
  std::string text;
  for (const std::span<const uint8_t> part : parts)
    text += std::string(part.begin(), part.end()) + "|";
  return text;
}

void OnThreads(int count, const std::function<void(int)>& run) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(run, i);
  for (std::thread& thread : threads) thread.join();
}

TEST(InProcessRanks, EveryRankGetsAllPartsOfEachGatherInOrder) {
  constexpr int kRanks = 4, kGathers = 2000;
  InProcessRanks group(kRanks, absl::Seconds(60));
  const auto part = [](int rank, int number) {
    return std::string((rank * 7 + number) % 5, char('a' + rank));
  };
  OnThreads(kRanks, [&](int rank) {
    for (int number = 0; number < kGathers; ++number) {
      std::string wanted;
      for (int other = 0; other < kRanks; ++other) wanted += part(other, number) + "|";
      const auto parts = group.rank(rank).Gather(Bytes(part(rank, number)));
      ASSERT_TRUE(parts.ok()) << parts.status();
      ASSERT_EQ(Joined(*parts), wanted) << "gather " << number;
    }
  });
}

TEST(InProcessRanks, AbortEndsTheGatherUnderWayAndLaterOnes) {
  InProcessRanks group(3, absl::Seconds(60));
  OnThreads(3, [&](int rank) {
    if (rank == 2) {
      group.rank(2).Abort(absl::UnavailableError("no holder"));
      group.rank(2).Abort(absl::InternalError("the first one counts"));
    }
    EXPECT_EQ(group.rank(rank).Gather({}).status(), absl::UnavailableError("no holder"));
    EXPECT_EQ(group.rank(rank).Gather({}).status(), absl::UnavailableError("no holder"));
  });
}

TEST(InProcessRanks, WhoDoesNotComeIsNamed) {
  InProcessRanks group(3, absl::Milliseconds(20));
  const absl::Status status = group.rank(0).Gather({}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("attention rank 0 waited 20ms for rank 1, 2"));
  EXPECT_EQ(group.rank(1).Gather({}).status(), status);
}

}  // namespace
}  // namespace sheaf
