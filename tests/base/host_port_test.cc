#include "base/host_port.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

TEST(HostPort, Ipv6AddressesAreBracketedOnce) {
  EXPECT_EQ(JoinHostPort("127.0.0.1", 80), "127.0.0.1:80");
  EXPECT_EQ(JoinHostPort("worker-3.pool", 50051), "worker-3.pool:50051");
  EXPECT_EQ(JoinHostPort("::", 80), "[::]:80");
  EXPECT_EQ(JoinHostPort("[::1]", 80), "[::1]:80");
  EXPECT_EQ(JoinHostPort("fe80::1%eth0", 80), "[fe80::1%eth0]:80");
}

TEST(HostPort, WhatIsJoinedIsSplitAgain) {
  for (const char* host : {"127.0.0.1", "name", "::", "::1", "fe80::1%eth0"}) {
    const auto split = SplitHostPort(JoinHostPort(host, 65535));
    ASSERT_TRUE(split.ok()) << split.status();
    EXPECT_EQ(split->host, host);
    EXPECT_EQ(split->port, 65535);
  }
}

TEST(HostPort, WhatIsNoAddressIsRefusedByName) {
  for (const char* text : {"", "name", ":80", "name:", "name:x", "name:65536", "name:-1", "::1:80",
                           "[::1]", "[::1]80", "[::1:80", "[]:80", "name:80 "}) {
    const auto split = SplitHostPort(text);
    ASSERT_FALSE(split.ok()) << text;
    EXPECT_NE(std::string(split.status().message()).find(text), std::string::npos);
  }
}

TEST(HostPort, LoopbackIsToldFromWhatOthersReach) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
  for (const char* host :
       {"0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "127.example.com", "router", ""}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
}

TEST(HostPort, AWildcardIsReachedOverLoopback) {
  EXPECT_EQ(LocalHostOf("0.0.0.0"), "127.0.0.1");
  EXPECT_EQ(LocalHostOf("[::]"), "::1");
  EXPECT_EQ(LocalHostOf("10.0.0.7"), "10.0.0.7");
  EXPECT_TRUE(IsWildcardHost("::"));
  EXPECT_FALSE(IsWildcardHost("::1"));
}

}  // namespace
}  // namespace sheaf
