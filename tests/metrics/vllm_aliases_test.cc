// The aliases carry the values of our own figures, and docs/metrics.md names all of them.
#include "router/metrics/vllm_aliases.h"

#include <array>
#include <chrono>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "router/metrics/queue_metrics.h"
#include "router/metrics/router_metrics.h"
#include "router/metrics/sequence_metrics.h"
#include "router/metrics/speculation_metrics.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

class VllmAliasesTest : public testing::Test {
 protected:
  std::vector<prometheus::MetricFamily> Aliases() {
    return VllmAliases(registry_.Collect(),
                       {.model_name = "glm", .block_size = 32, .cache_dtype = "bfloat16"});
  }
  std::string Text() { return prometheus::TextSerializer().Serialize(Aliases()); }

  prometheus::Registry registry_;
  RouterMetrics router_{registry_, "1"};
  QueueMetrics queue_{registry_};
  SequenceMetrics sequences_{registry_};
  SpeculationMetrics speculation_{registry_};
};

TEST_F(VllmAliasesTest, CarryOurValues) {
  router_.QueueIs(3, 4);
  router_.KvBlocksAre(5, 8);
  router_.FirstToken(milliseconds(20));
  router_.RequestEnded(RequestFace::kHttp, RequestOutcome::kStop, milliseconds(5));
  router_.RequestEnded(RequestFace::kGrpc, RequestOutcome::kStop, milliseconds(5));
  router_.RequestEnded(RequestFace::kGrpc, RequestOutcome::kDeadline, milliseconds(5));
  router_.RequestEnded(RequestFace::kGrpc, RequestOutcome::kInvalid, milliseconds(5));
  queue_.Refused(QueueMetrics::Refusal::kFull, 7);
  const std::array<int, 2> accepted_at = {2, 1};
  speculation_.Verified(2, 6, accepted_at);
  const std::string text = Text();
  for (const char* line :
       {R"(vllm:num_requests_running{model_name="glm",engine="0"} 4)",
        R"(vllm:num_requests_waiting{model_name="glm",engine="0"} 3)",
        R"(vllm:num_requests_waiting_by_reason{model_name="glm",engine="0",reason="capacity"} 3)",
        R"(vllm:kv_cache_usage_perc{model_name="glm",engine="0"} 0.625)",
        R"(vllm:cache_config_info{model_name="glm",engine="0",block_size="32",num_gpu_blocks="8",)"
        R"(cache_dtype="bfloat16",enable_prefix_caching="True"} 1)",
        R"(vllm:request_success_total{model_name="glm",engine="0",finished_reason="stop"} 2)",
        R"(vllm:request_success_total{model_name="glm",engine="0",finished_reason="abort"} 1)",
        R"(vllm:admission_rejections_total{model_name="glm",engine="0",reason="full"} 7)",
        R"(vllm:time_to_first_token_seconds_bucket{model_name="glm",engine="0",le="0.02"} 1)",
        R"(vllm:spec_decode_num_accepted_tokens_total{model_name="glm",engine="0"} 3)",
        R"(vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name="glm",engine="0",)"
        R"(position="0"} 2)"}) {
    EXPECT_THAT(text, HasSubstr(std::string(line) + "\n"));
  }
  EXPECT_THAT(text, Not(HasSubstr("invalid"))) << "what never ran has no reason of theirs";
}

TEST_F(VllmAliasesTest, WithoutACacheNothingIsUsed) {
  EXPECT_THAT(Text(), HasSubstr(R"(vllm:kv_cache_usage_perc{model_name="glm",engine="0"} 0)"));
}

TEST_F(VllmAliasesTest, AFigureThatIsNotThereHasNoAlias) {
  const prometheus::Registry empty;
  EXPECT_TRUE(VllmAliases(empty.Collect(), {}).empty());
}

TEST_F(VllmAliasesTest, PageNamesThemAll) {
  std::set<std::string> made, documented;
  for (const auto& family : Aliases()) {
    made.insert(family.name);
    EXPECT_FALSE(family.help.empty()) << family.name;
    EXPECT_FALSE(family.metric.empty()) << family.name;
  }
  std::ifstream page(std::string(SHEAF_SOURCE_DIR) + "/docs/metrics.md");
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("| `vllm:", 0) == 0) documented.insert(line.substr(3, line.find('`', 3) - 3));
  }
  EXPECT_EQ(made, documented);
}

}  // namespace
}  // namespace sheaf
