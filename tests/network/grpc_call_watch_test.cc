// Whom a watch over calls disconnects. What it counts is a matter for a real flood
// (tests/process/test_connections.py).
#include "network/grpc_call_watch.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(GrpcCallWatchTest, OneConnectionHasABound) {
  EXPECT_THAT(GrpcCallWatch::TooMany({{"a", 4096}, {"b", 0}}), IsEmpty());
  EXPECT_THAT(GrpcCallWatch::TooMany({{"a", 4096}, {"b", 4097}, {"c", 3}}), ElementsAre("b"));
}

TEST(GrpcCallWatchTest, AllTogetherHaveOneAndTheLargestGo) {
  EXPECT_THAT(GrpcCallWatch::TooMany({{"a", 4096}, {"b", 4096}, {"c", 4096}, {"d", 4096}}),
              IsEmpty());
  EXPECT_THAT(
      GrpcCallWatch::TooMany({{"a", 4095}, {"b", 4096}, {"c", 4095}, {"d", 4095}, {"e", 4}}),
      ElementsAre("b"));
  std::vector<PeerStreams> crowd(20000, {"small", 1});
  crowd.push_back({"large", 3000});
  crowd.push_back({"larger", 4000});
  const auto dropped = GrpcCallWatch::TooMany(crowd);
  EXPECT_EQ(dropped.size(), 2 + 20000 - 16384);
  EXPECT_EQ(dropped[0], "larger");
  EXPECT_EQ(dropped[1], "large");
}

}  // namespace
}  // namespace sheaf
