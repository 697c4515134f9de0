// The figures of an attention rank's process are those of docs/metrics.md, and say what it does.
#include "router/ranks/rank_member_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <set>
#include <string>

#include "prometheus/text_serializer.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

std::string Text(prometheus::Registry& registry) {
  return prometheus::TextSerializer().Serialize(registry.Collect());
}

TEST(RankMemberMetrics, NamesAreThoseOfThePage) {
  prometheus::Registry registry;
  RankMemberMetrics metrics(registry, 3, "1.2.3");
  std::set<std::string> registered, documented;
  for (const prometheus::MetricFamily& family : registry.Collect()) registered.insert(family.name);
  std::ifstream page(std::string(SHEAF_SOURCE_DIR) + "/docs/metrics.md");
  ASSERT_TRUE(page.is_open());
  bool in_section = false;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("## ", 0) == 0) in_section = line == "## Attention rank";
    if (in_section && line.rfind("| `sheaf_", 0) == 0)
      documented.insert(line.substr(3, line.find('`', 3) - 3));
  }
  EXPECT_EQ(registered, documented);
}

TEST(RankMemberMetrics, SayWhetherItIsJoinedAndWhatItComputed) {
  prometheus::Registry registry;
  RankMemberMetrics metrics(registry, 3, "1.2.3");
  EXPECT_NE(metrics.WhyNotReady(), "");
  metrics.NotJoined("it loads its weights");
  EXPECT_EQ(metrics.WhyNotReady(), "it loads its weights");
  metrics.WeightsAre(1000);
  metrics.Joined(64);
  EXPECT_EQ(metrics.WhyNotReady(), "");
  metrics.StepEnded(true, milliseconds(250));
  metrics.StepEnded(true, milliseconds(250));
  metrics.StepEnded(false, milliseconds(500));
  for (const char* line :
       {"sheaf_rank_joined 1", "sheaf_rank_number 3", "sheaf_rank_groups_total 1",
        "sheaf_rank_steps_total{outcome=\"done\"} 2",
        "sheaf_rank_steps_total{outcome=\"ended_early\"} 1", "sheaf_rank_busy_seconds_total 1",
        "sheaf_rank_weights_bytes 1000", "sheaf_rank_kv_cache_bytes 64",
        "sheaf_build_info{version=\"1.2.3\"} 1"}) {
    EXPECT_THAT(Text(registry), HasSubstr(std::string(line) + "\n"));
  }
  metrics.NotJoined("");
  EXPECT_NE(metrics.WhyNotReady(), "") << "a reason without words is one too";
  for (const char* line :
       {"sheaf_rank_joined 0", "sheaf_rank_kv_cache_bytes 0", "sheaf_rank_weights_bytes 1000"}) {
    EXPECT_THAT(Text(registry), HasSubstr(std::string(line) + "\n"));
  }
}

}  // namespace
}  // namespace sheaf
