#include "network/descriptor_shares.h"

#include <sys/resource.h>

#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

TEST(DescriptorShares, PlentyGivesWhatIsWanted) {
  const auto shares = ShareDescriptors({.limit = 1 << 20, .open = 40, .reserved = 16, .wanted = 5});
  ASSERT_TRUE(shares.ok());
  EXPECT_EQ(shares->connections, 5u);
  EXPECT_EQ(shares->ceiling, (1 << 20) - 8);
}

TEST(DescriptorShares, BothFacesTogetherLeaveTheReserve) {
  for (size_t limit = 64; limit < 2000; ++limit) {
    const DescriptorNeeds needs = NeedsOfRouter(limit, 36, /*workers=*/2, /*wanted=*/16384);
    const auto shares = ShareDescriptors(needs);
    ASSERT_TRUE(shares.ok()) << shares.status();
    EXPECT_LE(36 + needs.reserved + 2 * shares->connections, limit);
    EXPECT_GE(36 + needs.reserved + 2 * shares->connections + 2, limit + 1);  // and waste nothing
    EXPECT_GE(shares->connections, 4u);
    EXPECT_LT(static_cast<size_t>(shares->ceiling), limit);
  }
}

TEST(DescriptorShares, WorkersHaveTheirOwn) {
  EXPECT_EQ(NeedsOfRouter(1024, 36, 8, 1).reserved, NeedsOfRouter(1024, 36, 7, 1).reserved + 8);
  EXPECT_LE(NeedsOfRouter(1024, 36, 1000, 1).reserved, 256u);
}

TEST(DescriptorShares, TooFewToServeIsAnError) {
  const auto shares = ShareDescriptors({.limit = 63, .open = 40, .reserved = 16, .wanted = 100});
  EXPECT_EQ(shares.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(shares.status().message()),
              testing::AllOf(testing::HasSubstr("at least 64"), testing::HasSubstr("63")));
}

TEST(DescriptorShares, OpenOnesAreCounted) {
  const size_t before = OpenDescriptors();
  const UniqueFd more(dup(0));
  ASSERT_TRUE(more.valid());
  EXPECT_EQ(OpenDescriptors(), before + 1);
}

TEST(DescriptorShares, TheSoftLimitIsRaisedToTheHardOne) {
  rlimit saved{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &saved), 0);
  const rlimit low{std::min<rlim_t>(saved.rlim_max, 200), saved.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  const DescriptorLimit raised = RaiseDescriptorLimit();
  EXPECT_EQ(raised.before, low.rlim_cur);
  EXPECT_EQ(raised.now, std::min<size_t>(saved.rlim_max, kMostDescriptors));
  EXPECT_EQ(CurrentDescriptorLimit(), raised.now);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &saved), 0);
}

}  // namespace
}  // namespace sheaf
