// The worker's figures are those of docs/metrics.md, and count what was served.

#include "worker/worker_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

namespace sheaf {
namespace {

std::map<std::string, double> Values(prometheus::Registry& registry) {
  std::map<std::string, double> values;
  for (const prometheus::MetricFamily& family : registry.Collect()) {
    for (const prometheus::ClientMetric& metric : family.metric) {
      values[family.name] = family.type == prometheus::MetricType::Counter ? metric.counter.value
                                                                           : metric.gauge.value;
    }
  }
  return values;
}

TEST(WorkerMetrics, NamesAreThoseOfThePage) {
  prometheus::Registry registry;
  WorkerMetrics metrics(registry, "1.2.3");
  std::set<std::string> registered;
  for (const auto& [name, value] : Values(registry)) registered.insert(name);

  std::ifstream page(std::string(SHEAF_SOURCE_DIR) + "/docs/metrics.md");
  ASSERT_TRUE(page.is_open());
  std::set<std::string> documented;
  bool in_section = false;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("## ", 0) == 0) in_section = line == "## Expert worker";
    if (in_section && line.rfind("| `sheaf_", 0) == 0)
      documented.insert(line.substr(3, line.find('`', 3) - 3));
  }
  EXPECT_EQ(registered, documented);
}

TEST(WorkerMetrics, CountsWhatIsServed) {
  prometheus::Registry registry;
  WorkerMetrics metrics(registry, "1");
  metrics.OnServed({.tokens = 3,
                    .pairs = 8,
                    .received_bytes = 100,
                    .sent_bytes = 200,
                    .busy = std::chrono::milliseconds(500),
                    .ok = true});
  metrics.OnServed({.tokens = 3,
                    .pairs = 8,
                    .received_bytes = 10,
                    .sent_bytes = 20,
                    .busy = std::chrono::milliseconds(250),
                    .ok = false});
  metrics.SessionIs(true);
  metrics.EpochIs(Epoch(4));
  metrics.SliceIs(1000, 12);
  const std::map<std::string, double> values = Values(registry);
  EXPECT_EQ(values.at("sheaf_worker_dispatches_total"), 2);
  EXPECT_EQ(values.at("sheaf_worker_failed_dispatches_total"), 1);
  EXPECT_EQ(values.at("sheaf_worker_tokens_total"), 3);
  EXPECT_EQ(values.at("sheaf_worker_pairs_total"), 8);
  EXPECT_EQ(values.at("sheaf_worker_received_bytes_total"), 110);
  EXPECT_EQ(values.at("sheaf_worker_sent_bytes_total"), 220);
  EXPECT_EQ(values.at("sheaf_worker_busy_seconds_total"), 0.75);
  EXPECT_EQ(values.at("sheaf_worker_joined"), 1);
  EXPECT_EQ(values.at("sheaf_worker_epoch"), 4);
  EXPECT_EQ(values.at("sheaf_worker_slice_bytes"), 1000);
  EXPECT_EQ(values.at("sheaf_worker_slice_experts"), 12);
}

}  // namespace
}  // namespace sheaf
