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
  using Outcome = ServedDispatch::Outcome;
  const auto serve = [&](Outcome outcome, int64_t received, int64_t sent, int busy_ms) {
    ServedDispatch served;
    served.outcome = outcome;
    served.tokens = 3;
    served.pairs = 8;
    served.received_bytes = received;
    served.sent_bytes = sent;
    served.busy = std::chrono::milliseconds(busy_ms);
    metrics.OnServed(served);
  };
  serve(Outcome::kCombine, 100, 200, 500);
  serve(Outcome::kError, 10, 20, 250);
  serve(Outcome::kNotHeld, 1, 2, 0);
  metrics.OnLinks(2);
  const std::map<std::string, double> values = Values(registry);
  EXPECT_EQ(values.at("sheaf_worker_dispatches_total"), 3);
  EXPECT_EQ(values.at("sheaf_worker_failed_dispatches_total"), 1);
  EXPECT_EQ(values.at("sheaf_worker_not_held_total"), 1);
  EXPECT_EQ(values.at("sheaf_worker_tokens_total"), 3);
  EXPECT_EQ(values.at("sheaf_worker_pairs_total"), 8);
  EXPECT_EQ(values.at("sheaf_worker_received_bytes_total"), 111);
  EXPECT_EQ(values.at("sheaf_worker_sent_bytes_total"), 222);
  EXPECT_EQ(values.at("sheaf_worker_busy_seconds_total"), 0.75);
  EXPECT_EQ(values.at("sheaf_worker_links"), 2);
}

TEST(WorkerMetrics, CountsLinksThatEndAndThatNeverWereByCause) {
  prometheus::Registry registry;
  WorkerMetrics metrics(registry, "1");
  metrics.OnLinkEnded(absl::UnavailableError("gone"));
  metrics.OnLinkEnded(absl::UnauthenticatedError("its tag is wrong"));
  metrics.OnLinkEnded(absl::UnauthenticatedError("its tag is wrong"));
  metrics.OnLinkEnded(absl::InvalidArgumentError("nonsense"));
  metrics.HelloRefused(HelloRefusal::kReplay);
  std::map<std::string, double> by_cause;
  for (const prometheus::MetricFamily& family : registry.Collect()) {
    for (const prometheus::ClientMetric& metric : family.metric) {
      if (metric.label.size() == 1 && metric.label[0].name == "cause" && metric.counter.value > 0)
        by_cause[family.name + " " + metric.label[0].value] = metric.counter.value;
    }
  }
  const std::map<std::string, double> wanted = {
      {"sheaf_worker_links_lost_total closed", 1},
      {"sheaf_worker_links_lost_total forged", 2},
      {"sheaf_worker_links_lost_total nonsense", 1},
      {"sheaf_worker_refused_hellos_total replay", 1}};
  EXPECT_EQ(by_cause, wanted);
}

TEST(WorkerMetrics, CountsMovesOnceAndKnowsItsMembership) {
  prometheus::Registry registry;
  WorkerMetrics metrics(registry, "1");
  EXPECT_EQ(Values(registry).at("sheaf_worker_id"), -1);
  metrics.JoinedAs(WorkerId(4));
  HoldingFacts facts;
  facts.num_held = 3;
  facts.resident_bytes = 1000;
  facts.left_bytes = 50;
  facts.loaded_bytes = 700;
  facts.num_loaded = 3;
  metrics.HoldingsAre(facts);
  facts.num_loaded = 5;
  facts.num_dropped = 1;
  facts.num_failed = 2;
  facts.left_bytes = 0;
  metrics.HoldingsAre(facts);
  std::map<std::string, double> values = Values(registry);
  EXPECT_EQ(values.at("sheaf_worker_joined"), 1);
  EXPECT_EQ(values.at("sheaf_worker_id"), 4);
  EXPECT_EQ(values.at("sheaf_worker_sessions_total"), 1);
  EXPECT_EQ(values.at("sheaf_worker_slice_experts"), 3);
  EXPECT_EQ(values.at("sheaf_worker_slice_bytes"), 1000);
  EXPECT_EQ(values.at("sheaf_worker_load_left_bytes"), 0);
  EXPECT_EQ(values.at("sheaf_worker_loaded_bytes_total"), 700);
  EXPECT_EQ(values.at("sheaf_worker_loaded_experts_total"), 5);
  EXPECT_EQ(values.at("sheaf_worker_dropped_experts_total"), 1);
  EXPECT_EQ(values.at("sheaf_worker_failed_loads_total"), 2);
  metrics.SessionEnded();
  EXPECT_EQ(Values(registry).at("sheaf_worker_joined"), 0);
}

TEST(WorkerMetrics, IsReadyAsAMemberWithNothingToLoad) {
  prometheus::Registry registry;
  WorkerMetrics metrics(registry, "1");
  EXPECT_EQ(metrics.WhyNotReady(), "no coordinator has this worker as a member");
  metrics.JoinedAs(WorkerId(0));
  EXPECT_EQ(metrics.WhyNotReady(), "");
  HoldingFacts facts;
  facts.quiet = false;
  facts.left_bytes = 50;
  metrics.HoldingsAre(facts);
  EXPECT_EQ(metrics.WhyNotReady(), "experts are loading, 50 bytes left");
  facts.quiet = true;
  facts.left_bytes = 0;
  metrics.HoldingsAre(facts);
  EXPECT_EQ(metrics.WhyNotReady(), "");
  metrics.SessionEnded();
  EXPECT_NE(metrics.WhyNotReady(), "");
}

}  // namespace
}  // namespace sheaf
