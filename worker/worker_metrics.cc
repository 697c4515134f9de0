#include "worker/worker_metrics.h"

#include <chrono>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

prometheus::Counter& AddCounter(prometheus::Registry& registry, const char* name,
                                const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Gauge& AddGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

constexpr const char* kLinkEnds[] = {"closed", "forged", "nonsense", "other"};

size_t LinkEndOf(const absl::Status& why) {
  switch (why.code()) {
    case absl::StatusCode::kUnavailable:
      return 0;
    case absl::StatusCode::kUnauthenticated:
      return 1;
    case absl::StatusCode::kInvalidArgument:
      return 2;
    default:
      return 3;
  }
}

}  // namespace

WorkerMetrics::WorkerMetrics(prometheus::Registry& registry, const std::string& version)
    : dispatches_(AddCounter(registry, "sheaf_worker_dispatches_total",
                             "dispatches answered, whatever the answer")),
      not_held_(AddCounter(registry, "sheaf_worker_not_held_total",
                           "dispatches answered with experts that are not here")),
      failed_dispatches_(AddCounter(registry, "sheaf_worker_failed_dispatches_total",
                                    "dispatches answered with an error")),
      tokens_(AddCounter(registry, "sheaf_worker_tokens_total", "token vectors received")),
      pairs_(AddCounter(registry, "sheaf_worker_pairs_total", "(token, expert) pairs computed")),
      busy_seconds_(AddCounter(registry, "sheaf_worker_busy_seconds_total",
                               "from a dispatch's turn to its answer")),
      received_bytes_(AddCounter(registry, "sheaf_worker_received_bytes_total",
                                 "dispatch bytes, headers included")),
      sent_bytes_(
          AddCounter(registry, "sheaf_worker_sent_bytes_total", "answer bytes, headers included")),
      sessions_(AddCounter(registry, "sheaf_worker_sessions_total",
                           "times that this process joined the pool")),
      joined_(AddGauge(registry, "sheaf_worker_joined",
                       "1 while a coordinator has this worker as a member")),
      id_(AddGauge(registry, "sheaf_worker_id", "id in the pool, the last one; -1: none yet")),
      links_(AddGauge(registry, "sheaf_worker_links", "routers linked now")),
      experts_(AddGauge(registry, "sheaf_worker_slice_experts", "(layer, expert) pairs held")),
      announced_experts_(AddGauge(registry, "sheaf_worker_announced_experts",
                                  "(layer, expert) pairs that routers may ask for")),
      resident_bytes_(
          AddGauge(registry, "sheaf_worker_slice_bytes", "resident bytes of the experts held")),
      load_left_bytes_(AddGauge(registry, "sheaf_worker_load_left_bytes",
                                "bytes still to read of what it is asked to hold")),
      loaded_bytes_(AddCounter(registry, "sheaf_worker_loaded_bytes_total",
                               "bytes of experts read from the checkpoint")),
      loaded_experts_(AddCounter(registry, "sheaf_worker_loaded_experts_total", "experts loaded")),
      dropped_experts_(
          AddCounter(registry, "sheaf_worker_dropped_experts_total", "experts given up")),
      failed_loads_(AddCounter(registry, "sheaf_worker_failed_loads_total",
                               "experts that could not be loaded")) {
  id_.Set(-1);
  auto& lost = prometheus::BuildCounter()
                   .Name("sheaf_worker_links_lost_total")
                   .Help("links to routers that ended")
                   .Register(registry);
  for (size_t i = 0; i < links_lost_.size(); ++i)
    links_lost_[i] = &lost.Add({{"cause", kLinkEnds[i]}});
  auto& refused = prometheus::BuildCounter()
                      .Name("sheaf_worker_refused_hellos_total")
                      .Help("connections that became no link")
                      .Register(registry);
  for (size_t i = 0; i < refused_hellos_.size(); ++i)
    refused_hellos_[i] = &refused.Add({{"cause", NameOf(static_cast<HelloRefusal>(i))}});
  prometheus::BuildGauge()
      .Name("sheaf_build_info")
      .Help("what runs")
      .Register(registry)
      .Add({{"version", version}})
      .Set(1);
}

void WorkerMetrics::OnServed(const ServedDispatch& served) {
  dispatches_.Increment();
  received_bytes_.Increment(static_cast<double>(served.received_bytes));
  sent_bytes_.Increment(static_cast<double>(served.sent_bytes));
  busy_seconds_.Increment(std::chrono::duration<double>(served.busy).count());
  switch (served.outcome) {
    case ServedDispatch::Outcome::kNotHeld:
      not_held_.Increment();
      return;
    case ServedDispatch::Outcome::kError:
      failed_dispatches_.Increment();
      return;
    case ServedDispatch::Outcome::kCombine:
      tokens_.Increment(static_cast<double>(served.tokens));
      pairs_.Increment(static_cast<double>(served.pairs));
      return;
  }
}

void WorkerMetrics::OnLinks(int live_links) { links_.Set(live_links); }

void WorkerMetrics::OnLinkEnded(const absl::Status& why) {
  links_lost_[LinkEndOf(why)]->Increment();
}

void WorkerMetrics::HelloRefused(HelloRefusal cause) {
  refused_hellos_[static_cast<size_t>(cause)]->Increment();
}

void WorkerMetrics::JoinedAs(WorkerId id) {
  sessions_.Increment();
  joined_.Set(1);
  id_.Set(id.value());
}

void WorkerMetrics::SessionEnded() { joined_.Set(0); }

void WorkerMetrics::HoldingsAnnounced(const Holdings& holdings) {
  announced_experts_.Set(static_cast<double>(holdings.count()));
}

void WorkerMetrics::HoldingsAre(const HoldingFacts& facts) {
  experts_.Set(static_cast<double>(facts.num_held));
  resident_bytes_.Set(static_cast<double>(facts.resident_bytes));
  load_left_bytes_.Set(static_cast<double>(facts.left_bytes));
  absl::MutexLock lock(&mutex_);
  loaded_bytes_.Increment(static_cast<double>(facts.loaded_bytes - told_.loaded_bytes));
  loaded_experts_.Increment(static_cast<double>(facts.num_loaded - told_.num_loaded));
  dropped_experts_.Increment(static_cast<double>(facts.num_dropped - told_.num_dropped));
  failed_loads_.Increment(static_cast<double>(facts.num_failed - told_.num_failed));
  told_ = facts;
}

std::string WorkerMetrics::WhyNotReady() const {
  if (joined_.Value() == 0) return "no coordinator has this worker as a member";
  absl::MutexLock lock(&mutex_);
  if (told_.quiet) return "";
  return absl::StrFormat("experts are loading, %d bytes left", told_.left_bytes);
}

}  // namespace sheaf
