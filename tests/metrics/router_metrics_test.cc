// docs/metrics.md and the code name the same figures; every verb moves the figure that the page
// says.
#include "router/metrics/router_metrics.h"

#include <array>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"
#include "router/metrics/key_metrics.h"
#include "router/metrics/pool_metrics.h"
#include "router/metrics/queue_metrics.h"
#include "router/metrics/rank_metrics.h"
#include "router/metrics/sequence_metrics.h"
#include "router/metrics/speculation_metrics.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

struct Figure {
  std::string type;
  std::string labels;  // sorted, joined by ", "
  bool operator==(const Figure&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Figure& figure) {
  return out << figure.type << " (" << figure.labels << ")";
}

std::vector<std::string> Cells(const std::string& row) {
  std::vector<std::string> cells;
  std::istringstream stream(row.substr(1));
  for (std::string cell; std::getline(stream, cell, '|');) {
    std::string bare;
    for (const char c : cell) {
      if (c != '`') bare += c;
    }
    const size_t first = bare.find_first_not_of(' ');
    cells.push_back(first == std::string::npos
                        ? ""
                        : bare.substr(first, bare.find_last_not_of(' ') - first + 1));
  }
  return cells;
}

// The table under "## Router".
std::map<std::string, Figure> Documented() {
  std::ifstream file(std::string(SHEAF_SOURCE_DIR) + "/docs/metrics.md");
  EXPECT_TRUE(file.good());
  std::map<std::string, Figure> figures;
  bool in_section = false;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("## ", 0) == 0) in_section = line == "## Router";
    if (!in_section || line.rfind("| `sheaf_", 0) != 0) continue;
    const std::vector<std::string> cells = Cells(line);
    EXPECT_EQ(cells.size(), 5u) << line;
    EXPECT_FALSE(cells.at(3).empty()) << "no unit: " << line;
    EXPECT_FALSE(cells.at(4).empty()) << "no meaning: " << line;
    figures[cells[0]] = {cells[1], cells[2]};
  }
  return figures;
}

void UseEveryVerb(RouterMetrics& metrics) {
  metrics.LoadProgressIs(0.5);
  metrics.RequestEnded(RequestFace::kHttp, RequestOutcome::kStop, milliseconds(5));
  metrics.FirstToken(milliseconds(2));
  metrics.NextToken(milliseconds(1));
  metrics.ConnectionsChanged(RequestFace::kGrpc, 1);
  metrics.QueueIs(3, 4);
  metrics.KvBlocksAre(5, 8);
  metrics.StepDone({.prompt = 7, .decode = 3}, milliseconds(10));
  metrics.SchedulingTook(milliseconds(500));
  metrics.TokensTold(2, 1);
  metrics.StepWasPlanned(milliseconds(9), milliseconds(20), milliseconds(10));
  metrics.GuidedEnded(true);
  metrics.Preempted();
  metrics.PrefixLookedUp(64, 48);
  metrics.PrefixBlocksAre(6);
  metrics.PrefixBlocksEvicted(2);
  metrics.BlocksOffloaded({.held = 11, .kept = 12, .lost = 13, .loaded = 14, .failed = 15});
}

void UseEveryVerb(PoolMetrics& metrics) {
  metrics.StepExchanged(milliseconds(1), milliseconds(2));
  metrics.BytesExchanged(WorkerId(1), 100, 200);
  metrics.ExpertTokens(WorkerId(1), 16);
  std::vector<int64_t> answers(PoolMetrics::kAnswerSeconds.size() + 1, 0);
  answers[4] = 1;
  metrics.Answered(WorkerId(1), answers, 0.003);
  metrics.ImbalanceIs(1.5);
  metrics.LiveLinksAre(3);
  metrics.LinkLost(PoolMetrics::LinkEnd::kSilent);
  metrics.CoverageIs({1, 2, 3, 4});
  metrics.PairsAskedAgain(PoolMetrics::AskedAgain::kLate, 8);
  metrics.Hedges(2, 1);
  metrics.LateAnswers(5);
  metrics.Verified(9, 1);
  metrics.StepGivenUp();
}

void UseEveryVerb(SpeculationMetrics& metrics) {
  const std::array<int, 3> accepted_at = {2, 1, 0};
  metrics.Verified(2, 6, accepted_at);
}

void UseEveryVerb(QueueMetrics& metrics) {
  metrics.QueuedTokensAre(500);
  metrics.Admitted(milliseconds(3));
  metrics.Refused(QueueMetrics::Refusal::kTooLate, 2);
  metrics.Displaced(4);
}

void UseEveryVerb(SequenceMetrics& metrics) {
  metrics.Ended({.prompt_tokens = 30,
                 .generated_tokens = 5,
                 .queued = milliseconds(100),
                 .first_token = milliseconds(350),
                 .total = milliseconds(750)});
  // Ended before its first token: it has a size and no phases.
  metrics.Ended({.prompt_tokens = 10, .total = milliseconds(9000)});
}

void UseEveryVerb(KeyMetrics& metrics) {
  metrics.Ended("key:a", 3, 4);
  metrics.Ended("", 1, 1);
  metrics.Ended("key:b", 10, 20);
  metrics.Ended("key:c", 100, 200);
}

void UseEveryVerb(RankMetrics& metrics) {
  const TimePoint start{};
  metrics.GroupIs({.joined = 1}, start);
  metrics.GroupIs({.joined = 3, .groups = 1, .lost = {1, 0, 0, 0, 0}}, start + milliseconds(1500));
  metrics.GroupIs({.joined = 3, .groups = 1, .lost = {1, 0, 0, 0, 0}}, start + milliseconds(9000));
  metrics.GroupIs({.joined = 2, .groups = 1, .lost = {1, 1, 0, 0, 0}}, start + milliseconds(9000));
  metrics.GroupIs({.joined = 2, .groups = 1, .lost = {1, 1, 0, 0, 0}}, start + milliseconds(9250));
  metrics.StepGathered(
      {.gathers = 12, .sent_bytes = 400, .received_bytes = 300, .waited = milliseconds(4)});
  metrics.StepGivenUp();
  metrics.ComputedAgain(2, 70);
}

std::map<std::string, Figure> Registered(const prometheus::Registry& registry) {
  std::map<std::string, Figure> figures;
  for (const prometheus::MetricFamily& family : registry.Collect()) {
    Figure& figure = figures[family.name];
    figure.type = family.type == prometheus::MetricType::Counter     ? "counter"
                  : family.type == prometheus::MetricType::Gauge     ? "gauge"
                  : family.type == prometheus::MetricType::Histogram ? "histogram"
                                                                     : "other";
    EXPECT_FALSE(family.help.empty()) << family.name;
    for (const auto& label : family.metric.at(0).label) {
      figure.labels += (figure.labels.empty() ? "" : ", ") + label.name;
    }
  }
  return figures;
}

TEST(RouterMetrics, PageAndCodeNameTheSameFigures) {
  prometheus::Registry registry;
  RouterMetrics metrics(registry, "1.2.3");
  PoolMetrics pool(registry);
  QueueMetrics queue(registry);
  SpeculationMetrics speculation(registry);
  SequenceMetrics sequences(registry);
  KeyMetrics keys(registry, /*most_keys=*/2);
  RankMetrics ranks(registry, /*wanted=*/3);
  UseEveryVerb(metrics);
  UseEveryVerb(pool);
  UseEveryVerb(queue);
  UseEveryVerb(speculation);
  UseEveryVerb(sequences);
  UseEveryVerb(keys);
  UseEveryVerb(ranks);
  EXPECT_EQ(Documented(), Registered(registry));
}

TEST(RouterMetrics, NamesFollowPrometheusConventions) {
  for (const auto& [name, figure] : Documented()) {
    EXPECT_EQ(figure.type == "counter", name.ends_with("_total")) << name;
  }
}

TEST(RouterMetrics, VerbsMoveTheirFigures) {
  prometheus::Registry registry;
  RouterMetrics metrics(registry, "1.2.3");
  PoolMetrics pool(registry);
  QueueMetrics queue(registry);
  SpeculationMetrics speculation(registry);
  SequenceMetrics sequences(registry);
  KeyMetrics keys(registry, /*most_keys=*/2);
  RankMetrics ranks(registry, /*wanted=*/3);
  UseEveryVerb(metrics);
  UseEveryVerb(pool);
  UseEveryVerb(queue);
  UseEveryVerb(speculation);
  UseEveryVerb(sequences);
  UseEveryVerb(keys);
  UseEveryVerb(ranks);
  pool.BytesExchanged(WorkerId(1), 1, 2);
  const std::string text = prometheus::TextSerializer().Serialize(registry.Collect());
  for (const char* line :
       {"sheaf_requests_total{face=\"http\",outcome=\"stop\"} 1",
        "sheaf_connections{face=\"grpc\"} 1", "sheaf_time_to_first_token_seconds_count 1",
        "sheaf_inter_token_latency_seconds_count 1", "sheaf_request_duration_seconds_sum 0.005",
        "sheaf_requests_queued 3", "sheaf_requests_running 4", "sheaf_kv_blocks_used 5",
        "sheaf_kv_blocks_capacity 8", "sheaf_prompt_tokens_total 7",
        "sheaf_generated_tokens_total 2", "sheaf_steps_total 1",
        "sheaf_scheduling_cpu_seconds_total 0.5", "sheaf_step_tokens_sum 10",
        "sheaf_step_duration_seconds_sum 0.01", "sheaf_preemptions_total 1",
        "sheaf_prefix_cache_queries_total 64", "sheaf_prefix_cache_hits_total 48",
        "sheaf_kv_offload_blocks 11", "sheaf_kv_offload_kept_blocks_total 12",
        "sheaf_kv_offload_lost_blocks_total 13", "sheaf_kv_offload_loaded_blocks_total 14",
        "sheaf_kv_offload_failed_blocks_total 15", "sheaf_prefix_cache_blocks 6",
        "sheaf_prefix_cache_evictions_total 2", "sheaf_forced_tokens_total 1",
        "sheaf_guided_sequences_total 1", "sheaf_guide_errors_total 1",
        "sheaf_step_dispatch_seconds_sum 0.001", "sheaf_step_combine_seconds_sum 0.002",
        "sheaf_exchange_sent_bytes_total{worker=\"1\"} 101",
        "sheaf_exchange_received_bytes_total{worker=\"1\"} 202",
        "sheaf_expert_tokens_total{worker=\"1\"} 16", "sheaf_expert_imbalance_ratio 1.5",
        "sheaf_live_workers 3", "sheaf_links_lost_total{cause=\"silent\"} 1",
        "sheaf_expert_coverage{holders=\"3+\"} 4", "sheaf_dispatch_seconds_sum{worker=\"1\"} 0.003",
        "sheaf_redispatched_pairs_total{cause=\"late\"} 8", "sheaf_hedges_total{result=\"won\"} 2",
        "sheaf_hedges_total{result=\"lost\"} 1", "sheaf_late_answers_total 5",
        "sheaf_verified_pairs_total{result=\"different\"} 1", "sheaf_steps_given_up_total 1",
        "sheaf_speculation_drafts_total 2", "sheaf_speculation_draft_tokens_total 6",
        "sheaf_speculation_accepted_tokens_total{position=\"0\"} 2",
        "sheaf_speculation_accepted_tokens_total{position=\"15\"} 0", "sheaf_queued_tokens 500",
        "sheaf_queue_seconds_sum 0.003", "sheaf_displacements_total 4",
        "sheaf_requests_refused_total{cause=\"too_late\"} 2", "sheaf_load_progress_ratio 0.5",
        "sheaf_sequence_prompt_tokens_sum 40", "sheaf_sequence_generated_tokens_count 2",
        "sheaf_sequence_prefill_seconds_sum 0.25", "sheaf_sequence_decode_seconds_sum 0.4",
        "sheaf_sequence_run_seconds_sum 0.65", "sheaf_sequence_token_seconds_sum 0.1",
        "sheaf_sequence_token_seconds_count 1", "sheaf_key_requests_total{key=\"none\"} 1",
        "sheaf_key_requests_total{key=\"other\"} 2",
        "sheaf_key_prompt_tokens_total{key=\"other\"} 110",
        "sheaf_key_generated_tokens_total{key=\"other\"} 220", "sheaf_attention_ranks_wanted 3",
        "sheaf_attention_ranks_joined 2", "sheaf_attention_groups_total 1",
        "sheaf_attention_ranks_lost_total{cause=\"closed\"} 1",
        "sheaf_attention_ranks_lost_total{cause=\"late\"} 1",
        "sheaf_attention_ranks_lost_total{cause=\"nonsense\"} 0",
        "sheaf_attention_ranks_lost_total{cause=\"forged\"} 0",
        "sheaf_attention_ranks_lost_total{cause=\"other\"} 0",
        "sheaf_attention_incomplete_seconds_total 1.75", "sheaf_attention_steps_given_up_total 1",
        "sheaf_attention_recomputed_sequences_total 2",
        "sheaf_attention_recomputed_tokens_total 70", "sheaf_attention_gathers_total 12",
        "sheaf_attention_sent_bytes_total 400", "sheaf_attention_received_bytes_total 300",
        "sheaf_step_gather_seconds_sum 0.004", "sheaf_build_info{version=\"1.2.3\"} 1",
        // There from the start, so that the first event is not lost to rate().
        "sheaf_requests_total{face=\"grpc\",outcome=\"rejected\"} 0"}) {
    EXPECT_THAT(text, HasSubstr(std::string(line) + "\n"));
  }
}

}  // namespace
}  // namespace sheaf
