#include "cli/process/own_address.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

TEST(OwnAddress, TowardsLoopbackItIsLoopback) {
  const auto own = OwnAddressTowards("127.0.0.5:50052");
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->rfind("127.", 0), 0u) << *own;
}

TEST(OwnAddress, APeerThatIsNotOneIsNamed) {
  for (const char* peer : {"no port", "name.invalid:1"}) {
    const auto own = OwnAddressTowards(peer);
    ASSERT_FALSE(own.ok());
    EXPECT_NE(std::string(own.status().message()).find(peer), std::string::npos);
  }
}

TEST(OwnAddress, OnlyAWildcardIsReplaced) {
  EXPECT_EQ(AnnouncedAddress("10.1.2.3", 9, "127.0.0.1:1"), "10.1.2.3:9");
  EXPECT_EQ(AnnouncedAddress("::1", 9, "127.0.0.1:1"), "[::1]:9");
  EXPECT_EQ(AnnouncedAddress("0.0.0.0", 9, "127.0.0.1:1"), "127.0.0.1:9");
  EXPECT_EQ(AnnouncedAddress("::", 9, "127.0.0.1:1"), "127.0.0.1:9");
}

}  // namespace
}  // namespace sheaf
