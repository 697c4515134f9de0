// Flags, and what the environment says where they are absent.
#include "cli/options/trace_options.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Variables = std::map<std::string, std::string>;

absl::StatusOr<TraceSettings> Settings(const TraceOptions& options, const Variables& variables) {
  return SettingsOf(options, [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

const Variables kPlatform = {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://agent:4318"},
                             {"OTEL_SERVICE_NAME", "chat-router"},
                             {"OTEL_TRACES_SAMPLER_ARG", "0.25"}};

TEST(TraceOptionsTest, WithoutACollectorThereAreNone) {
  const auto settings =
      Settings({.otlp_endpoint = {}, .sample_ratio = 1}, {{"OTEL_SERVICE_NAME", "x"}});
  ASSERT_TRUE(settings.ok());
  EXPECT_FALSE(settings->endpoint.has_value());
}

TEST(TraceOptionsTest, TheEnvironmentCountsWhereAFlagIsAbsent) {
  const auto all = Settings({}, kPlatform);
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(all->endpoint->url(), "http://agent:4318/v1/traces");
  EXPECT_EQ(all->sample_ratio, 0.25);
  EXPECT_EQ(all->service_name, "chat-router");
  const auto flags = Settings({.otlp_endpoint = "http://mine", .sample_ratio = 0.5}, kPlatform);
  EXPECT_EQ(flags->endpoint->host, "mine");
  EXPECT_EQ(flags->sample_ratio, 0.5);
  const auto off = Settings({.otlp_endpoint = "", .sample_ratio = {}}, kPlatform);
  EXPECT_FALSE(off->endpoint.has_value()) << "off is off";
  const auto defaults = Settings({.otlp_endpoint = "http://mine", .sample_ratio = {}}, {});
  EXPECT_EQ(defaults->sample_ratio, TraceSettings::kDefaultSampleRatio);
  EXPECT_EQ(defaults->service_name, "sheaf-router");
}

TEST(TraceOptionsTest, AWrongFlagIsAnError) {
  const auto settings = Settings({.otlp_endpoint = "https://mine", .sample_ratio = {}}, {});
  EXPECT_EQ(settings.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(settings.status().message()),
              testing::StartsWith("--otlp-endpoint: wanted a URL such as"));
}

TEST(TraceOptionsTest, AWrongEnvironmentIsARemark) {
  Variables variables = kPlatform;
  EXPECT_THAT(Settings({}, variables)->remarks, IsEmpty());
  variables["OTEL_TRACES_SAMPLER_ARG"] = "2";
  auto settings = Settings({}, variables);
  EXPECT_TRUE(settings->endpoint.has_value());
  EXPECT_EQ(settings->sample_ratio, TraceSettings::kDefaultSampleRatio);
  EXPECT_THAT(settings->remarks, ElementsAre(HasSubstr("OTEL_TRACES_SAMPLER_ARG")));
  variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc";
  settings = Settings({}, variables);
  EXPECT_FALSE(settings->endpoint.has_value());
  EXPECT_THAT(settings->remarks, ElementsAre(HasSubstr("wanted http/protobuf, got \"grpc\"")));
  variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf";
  variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "https://agent:4318";
  settings = Settings({}, variables);
  ASSERT_TRUE(settings.ok()) << "a platform's setting stops no server";
  EXPECT_FALSE(settings->endpoint.has_value());
  EXPECT_THAT(settings->remarks, ElementsAre(HasSubstr("plaintext only")));
}

}  // namespace
}  // namespace sheaf
