#include "cli/process/access_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

EndedRequest Ended() {
  return {.face = RequestFace::kGrpc,
          .outcome = RequestOutcome::kLength,
          .id = "chatcmpl-7",
          .fairness_key = "key:team",
          .choices = 2,
          .prompt_tokens = 12,
          .cached_tokens = 8,
          .output_tokens = 30,
          .text_bytes = 123,
          .queued = milliseconds(5),
          .first_token = milliseconds(250),
          .total = milliseconds(1204)};
}

TEST(AccessLog, ALineOfText) {
  EXPECT_EQ(AccessLine(Ended(), {.json = false, .model = "glm"}),
            "request id=chatcmpl-7 face=grpc key=" + HashOfKey("key:team") +
                " model=glm choices=2 in=12 cached=8 out=30 bytes=123 queue_s=0.005 ttft_s=0.250 "
                "total_s=1.204 outcome=length");
  const EndedRequest refused{.outcome = RequestOutcome::kInvalid, .total = milliseconds(1)};
  EXPECT_THAT(AccessLine(refused, {.json = false, .model = "glm"}),
              HasSubstr("id=- face=http key=none model=glm choices=0 in=0 cached=0 out=0 bytes=0 "
                        "queue_s=0.000 ttft_s=- total_s=0.001 outcome=invalid"));
}

TEST(AccessLog, MembersOfAnObject) {
  const auto json =
      nlohmann::json::parse("{" + AccessLine(Ended(), {.json = true, .model = "a \"b\""}) + "}");
  EXPECT_EQ(json["request_id"], "chatcmpl-7");
  EXPECT_EQ(json["key"], HashOfKey("key:team"));
  EXPECT_EQ(json["model"], "a \"b\"");
  EXPECT_EQ(json["output_tokens"], 30);
  EXPECT_DOUBLE_EQ(json["first_token_seconds"], 0.25);
  EXPECT_EQ(json["outcome"], "length");
  EndedRequest none = Ended();
  none.first_token.reset();
  EXPECT_FALSE(nlohmann::json::parse("{" + AccessLine(none, {.json = true, .model = "m"}) + "}")
                   .contains("first_token_seconds"));
}

TEST(AccessLog, ATraceIsNamed) {
  TraceContext trace;
  trace.trace_id.fill(0xa1);
  EndedRequest request = Ended();
  request.trace = &trace;
  const std::string id = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
  EXPECT_TRUE(AccessLine(request, {.json = false, .model = "m"}).ends_with(" trace_id=" + id));
  const std::string members = AccessLine(request, {.json = true, .model = "m"});
  EXPECT_EQ(nlohmann::json::parse("{" + members + "}")["trace_id"], id);
}

TEST(AccessLog, AnIdOfAClientBreaksNoLine) {
  EndedRequest request = Ended();
  request.id = "x outcome=stop\n\"\xff\u2028";
  const std::string line = AccessLine(request, {.json = false, .model = "m"});
  EXPECT_THAT(line, HasSubstr(R"(id="x outcome=stop\n\"\ufffd\u2028" face=)"));
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(
      "{" + AccessLine(request, {.json = true, .model = "m"}) + "}", nullptr, false);
  EXPECT_TRUE(json.is_object());
}

TEST(AccessLog, NeverTheKeyItself) {
  for (const bool json : {false, true}) {
    EXPECT_EQ(AccessLine(Ended(), {json, "m"}).find("team"), std::string::npos);
  }
  EXPECT_NE(HashOfKey("key:a"), HashOfKey("key:b"));
  EXPECT_EQ(HashOfKey(""), "none");
  EXPECT_EQ(HashOfKey("key:a").size(), 16u);
}

TEST(AccessLog, CountsByKeyWithAndWithoutLines) {
  prometheus::Registry registry;
  KeyMetrics keys(registry, 8);
  AccessLog log({}, /*write_lines=*/false, &keys);
  log.Ended(Ended());
  EXPECT_THAT(prometheus::TextSerializer().Serialize(registry.Collect()),
              HasSubstr("sheaf_key_generated_tokens_total{key=\"" + HashOfKey("key:team") +
                        "\"} 30\n"));
}

}  // namespace
}  // namespace sheaf
