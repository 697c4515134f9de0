#include "worker/worker_metrics.h"

#include <chrono>

namespace sheaf {
namespace {

prometheus::Counter& AddCounter(prometheus::Registry& registry, const char* name,
                                const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Gauge& AddGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace

WorkerMetrics::WorkerMetrics(prometheus::Registry& registry, const std::string& version)
    : dispatches_(AddCounter(registry, "sheaf_worker_dispatches_total",
                             "dispatches answered, errors included")),
      failed_dispatches_(AddCounter(registry, "sheaf_worker_failed_dispatches_total",
                                    "dispatches answered with an error")),
      tokens_(AddCounter(registry, "sheaf_worker_tokens_total", "token vectors received")),
      pairs_(AddCounter(registry, "sheaf_worker_pairs_total", "(token, expert) pairs computed")),
      busy_seconds_(AddCounter(registry, "sheaf_worker_busy_seconds_total",
                               "from a dispatch's arrival to its answer")),
      received_bytes_(AddCounter(registry, "sheaf_worker_received_bytes_total",
                                 "dispatch bytes, headers included")),
      sent_bytes_(
          AddCounter(registry, "sheaf_worker_sent_bytes_total", "answer bytes, headers included")),
      sessions_(AddCounter(registry, "sheaf_worker_sessions_total",
                           "times that this process joined a router")),
      joined_(AddGauge(registry, "sheaf_worker_joined",
                       "1 while a router has this worker as a member")),
      epoch_(AddGauge(registry, "sheaf_worker_epoch", "epoch whose link is served; 0: none")),
      load_done_bytes_(
          AddGauge(registry, "sheaf_worker_load_done_bytes", "bytes of the slice read so far")),
      load_total_bytes_(
          AddGauge(registry, "sheaf_worker_load_total_bytes", "bytes of the slice to read")),
      slice_bytes_(
          AddGauge(registry, "sheaf_worker_slice_bytes", "resident bytes of the loaded slice")),
      slice_experts_(
          AddGauge(registry, "sheaf_worker_slice_experts", "(layer, expert) pairs held")) {
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
  if (!served.ok) {
    failed_dispatches_.Increment();
    return;
  }
  tokens_.Increment(static_cast<double>(served.tokens));
  pairs_.Increment(static_cast<double>(served.pairs));
}

void WorkerMetrics::SessionIs(bool joined) {
  if (joined) sessions_.Increment();
  joined_.Set(joined ? 1 : 0);
}

void WorkerMetrics::EpochIs(Epoch epoch) { epoch_.Set(static_cast<double>(epoch.value())); }

void WorkerMetrics::LoadedIs(size_t done_bytes, size_t total_bytes) {
  load_done_bytes_.Set(static_cast<double>(done_bytes));
  load_total_bytes_.Set(static_cast<double>(total_bytes));
}

void WorkerMetrics::SliceIs(size_t resident_bytes, size_t num_experts) {
  slice_bytes_.Set(static_cast<double>(resident_bytes));
  slice_experts_.Set(static_cast<double>(num_experts));
}

}  // namespace sheaf
