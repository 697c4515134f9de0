// URLs of collectors as people write them.
#include "tracing/otlp_endpoint.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

TEST(OtlpEndpointTest, AUrlIsCompleted) {
  const std::vector<std::pair<std::string, std::string>> urls = {
      {"http://collector", "http://collector:4318/v1/traces"},
      {"HTTP://collector:80/", "http://collector:80/v1/traces"},
      {"http://10.0.0.1:4318/v1/traces", "http://10.0.0.1:4318/v1/traces"},
      {"http://[::1]:9/otlp//", "http://[::1]:9/otlp/v1/traces"},
      {"http://[::1]", "http://[::1]:4318/v1/traces"},
      {"http://a.b-c.example/otlp/v1/traces/", "http://a.b-c.example:4318/otlp/v1/traces"},
  };
  for (const auto& [url, complete] : urls) {
    const auto endpoint = ParseOtlpEndpoint(url);
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    EXPECT_EQ(endpoint->url(), complete);
  }
}

TEST(OtlpEndpointTest, WhatIsWrongIsSaid) {
  const std::vector<std::pair<std::string, std::string>> urls = {
      {"https://collector:4318", "plaintext only"}, {"collector:4318", "http://"},
      {"", "http://"},                              {"http://", "no host"},
      {"http:///v1/traces", "no host"},             {"http://a:b@host", "user"},
      {"http://host:4318/?q=1", "query"},           {"http://host\r\nX: y/", "blanks"},
      {"http://host:0", "port"},                    {"http://host:70000", "70000"},
      {"http://host:x", "host:x"},                  {"http://::1:4318", "::1"},
  };
  for (const auto& [url, why] : urls) {
    const auto endpoint = ParseOtlpEndpoint(url);
    ASSERT_FALSE(endpoint.ok()) << url;
    EXPECT_THAT(std::string(endpoint.status().message()), testing::HasSubstr(why));
  }
}

}  // namespace
}  // namespace sheaf
