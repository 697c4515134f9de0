// An attention rank finds the links of a router that listens on every address where it has reached
// the router already.
#include "router/ranks/reached_addresses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sheaf {
namespace {

using testing::ElementsAre;

TEST(ReachedAddresses, AWildcardIsWhereTheRouterWasReached) {
  EXPECT_THAT(ReachedAddresses({"shm:host:ab", "tcp:0.0.0.0:7001"}, "ipv4:10.0.0.2:50053"),
              ElementsAre("shm:host:ab", "tcp:10.0.0.2:7001"));
  EXPECT_THAT(ReachedAddresses({"tcp:[::]:7001"}, "ipv6:%5Bfd00::2%5D:50053"),
              ElementsAre("tcp:[fd00::2]:7001"));
  EXPECT_THAT(ReachedAddresses({"tcp:[::]:7001"}, "ipv6:[fe80::1%25eth0]:50053"),
              ElementsAre("tcp:[fe80::1%eth0]:7001"));
  EXPECT_THAT(ReachedAddresses({"tcp:[::]:7001"}, "ipv4:10.0.0.2:50053"),
              ElementsAre("tcp:10.0.0.2:7001"));
}

TEST(ReachedAddresses, AnythingElseStaysAsItIs) {
  EXPECT_THAT(ReachedAddresses({"tcp:10.0.0.3:7001", "tcp:nonsense", "shm:0.0.0.0:7", ""},
                               "ipv4:10.0.0.2:50053"),
              ElementsAre("tcp:10.0.0.3:7001", "tcp:nonsense", "shm:0.0.0.0:7", ""));
  for (const char* peer :
       {"", "unix:/run/socket", "ipv4:", "ipv4:10.0.0.2", "ipv6:%5B", "10.0.0.2:1"}) {
    EXPECT_THAT(ReachedAddresses({"tcp:0.0.0.0:7001"}, peer), ElementsAre("tcp:0.0.0.0:7001"))
        << peer;
  }
}

}  // namespace
}  // namespace sheaf
