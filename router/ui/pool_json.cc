#include "router/ui/pool_json.h"

#include <cmath>
#include <cstdlib>
#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

// Figures of docs/metrics.md that people look at, summed over their labels. Counters since the
// start: whoever wants a rate asks twice.
constexpr const char* kTotals[] = {
    "sheaf_requests_total",
    "sheaf_requests_refused_total",
    "sheaf_prompt_tokens_total",
    "sheaf_generated_tokens_total",
    "sheaf_queued_tokens",
    "sheaf_steps_total",
    "sheaf_steps_given_up_total",
    "sheaf_preemptions_total",
    "sheaf_prefix_cache_queries_total",
    "sheaf_prefix_cache_hits_total",
    "sheaf_links_lost_total",
    "sheaf_redispatched_pairs_total",
    "sheaf_expert_imbalance_ratio",
    "sheaf_pool_moves_total",
    "sheaf_pool_moved_bytes_total",
};
// {"count", "sum"} of these, in seconds: their mean over a time is a difference of both.
constexpr const char* kTimes[] = {
    "sheaf_time_to_first_token_seconds", "sheaf_inter_token_latency_seconds",
    "sheaf_queue_seconds",               "sheaf_request_duration_seconds",
    "sheaf_step_duration_seconds",
};

using Figures = std::map<std::string_view, const prometheus::MetricFamily*>;

double ValueOf(const prometheus::MetricFamily& family, const prometheus::ClientMetric& metric) {
  return family.type == prometheus::MetricType::Gauge ? metric.gauge.value : metric.counter.value;
}

Json FiguresJson(const Figures& figures) {
  Json json = Json::object();
  for (const char* name : kTotals) {
    const auto found = figures.find(name);
    if (found == figures.end()) continue;
    double sum = 0;
    for (const auto& metric : found->second->metric) sum += ValueOf(*found->second, metric);
    json[name] = sum;
  }
  for (const char* name : kTimes) {
    const auto found = figures.find(name);
    if (found == figures.end()) continue;
    double sum = 0;
    uint64_t count = 0;
    for (const auto& metric : found->second->metric) {
      sum += metric.histogram.sample_sum;
      count += metric.histogram.sample_count;
    }
    json[name] = {{"count", count}, {"sum", sum}};
  }
  return json;
}

std::map<int, double> ByWorker(const Figures& figures, const char* name) {
  std::map<int, double> values;
  const auto found = figures.find(name);
  if (found == figures.end()) return values;
  for (const auto& metric : found->second->metric) {
    for (const auto& label : metric.label) {
      if (label.name == "worker")
        values[std::atoi(label.value.c_str())] += ValueOf(*found->second, metric);
    }
  }
  return values;
}

// An id as text: JavaScript's numbers do not hold 64 bits.
std::string InstanceText(uint64_t instance) { return absl::StrFormat("%016x", instance); }

Json LinkJson(const LinkPicture& link) {
  return {{"live", link.live},
          {"path", link.path},
          {"reason", link.reason},
          {"failures", link.failures},
          {"late_answers", link.late_answers},
          {"owed_answers", link.owed_answers},
          {"seconds_per_unit", link.seconds_per_unit}};
}

Json MemberJson(const MemberPicture& member) {
  return {{"state", member.state},
          {"host", member.host},
          {"pid", member.pid},
          {"held_experts", member.held_experts},
          {"wanted_experts", member.wanted_experts},
          {"resident_bytes", member.resident_bytes},
          {"memory_bytes", member.memory_bytes},
          {"left_bytes", member.left_bytes},
          {"load_share", member.load_share},
          {"live_links", member.live_links},
          {"silent_ms", member.silent_ms},
          {"note", member.note}};
}

const char* NameOf(PoolPicture::Place place) {
  switch (place) {
    case PoolPicture::Place::kHere:
      return "router";
    case PoolPicture::Place::kThreads:
      return "threads";
    case PoolPicture::Place::kWorkers:
      return "workers";
  }
  return "";
}

const char* NameOf(RouterPicture::State state) {
  switch (state) {
    case RouterPicture::State::kLoading:
      return "loading";
    case RouterPicture::State::kReady:
      return "ready";
    case RouterPicture::State::kNotReady:
      return "not ready";
    case RouterPicture::State::kHangs:
      return "hangs";
  }
  return "";
}

Json PoolPart(const PoolPicture& pool, const Figures& figures) {
  const std::map<int, double> pairs = ByWorker(figures, "sheaf_expert_tokens_total");
  const std::map<int, double> sent = ByWorker(figures, "sheaf_exchange_sent_bytes_total");
  const std::map<int, double> received = ByWorker(figures, "sheaf_exchange_received_bytes_total");
  const auto of = [](const std::map<int, double>& values, int worker) {
    const auto found = values.find(worker);
    return found == values.end() ? 0.0 : found->second;
  };
  Json workers = Json::array();
  for (const WorkerPicture& worker : pool.workers) {
    workers.push_back({{"id", worker.id},
                       {"name", worker.name},
                       {"pairs_total", of(pairs, worker.id)},
                       {"sent_bytes_total", of(sent, worker.id)},
                       {"received_bytes_total", of(received, worker.id)},
                       {"link", worker.link ? LinkJson(*worker.link) : Json()},
                       {"member", worker.member ? MemberJson(*worker.member) : Json()}});
  }
  Json json = {{"experts_in", NameOf(pool.place)},
               {"complete", pool.complete},
               {"text", pool.text},
               {"coverage", pool.coverage},
               {"live_links", pool.live_links},
               {"experts_version", pool.holdings_version},
               {"workers", std::move(workers)},
               {"coordinator", nullptr}};
  if (pool.coordinator_speaks) {
    Json lost = Json::array();
    for (const LostWorkerPicture& one : pool.lost) {
      lost.push_back({{"id", one.id},
                      {"instance", InstanceText(one.instance)},
                      {"host", one.host},
                      {"pid", one.pid},
                      {"reason", one.reason},
                      {"ms_ago", one.ms_ago}});
    }
    json["coordinator"] = {{"replicas", pool.replicas},
                           {"routers", pool.routers},
                           {"moving_bytes", pool.moving_bytes},
                           {"lost", std::move(lost)}};
  }
  return json;
}

}  // namespace

std::string PoolJson(const RouterPicture& router,
                     const std::vector<prometheus::MetricFamily>& families) {
  Figures figures;
  for (const prometheus::MetricFamily& family : families) figures[family.name] = &family;
  return JsonText({{"version", router.version},
                   {"model", router.model},
                   {"uptime_seconds", router.uptime_seconds},
                   {"max_model_len", router.max_model_len},
                   {"state", NameOf(router.state)},
                   {"progress", std::floor(router.progress * 1000) / 1000},
                   {"load",
                    {{"running", router.load.running},
                     {"queued", router.load.queued},
                     {"kv_blocks_used", router.load.used_blocks},
                     {"kv_blocks_total", router.load.total_blocks},
                     {"kv_blocks_cached", router.load.cached_blocks}}},
                   {"figures", FiguresJson(figures)},
                   {"pool", router.pool ? PoolPart(*router.pool, figures) : Json()}});
}

}  // namespace sheaf
