#pragma once
// WorkerMetrics: every figure that an expert worker exposes, as verbs. docs/metrics.md lists the
// names; a test holds the two together.
//
// Threads    any. Ownership: the registry outlives this.

#include <string>

#include "base/ids.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"
#include "worker/serve_link.h"

namespace sheaf {

class WorkerMetrics final : public ServeObserver {
 public:
  WorkerMetrics(prometheus::Registry& registry, const std::string& version);

  void OnServed(const ServedDispatch& served) override;
  // A session with the router began (joined) or ended.
  void SessionIs(bool joined);
  void EpochIs(Epoch epoch);
  void LoadedIs(size_t done_bytes, size_t total_bytes);
  void SliceIs(size_t resident_bytes, size_t num_experts);

 private:
  prometheus::Counter& dispatches_;
  prometheus::Counter& failed_dispatches_;
  prometheus::Counter& tokens_;
  prometheus::Counter& pairs_;
  prometheus::Counter& busy_seconds_;
  prometheus::Counter& received_bytes_;
  prometheus::Counter& sent_bytes_;
  prometheus::Counter& sessions_;
  prometheus::Gauge& joined_;
  prometheus::Gauge& epoch_;
  prometheus::Gauge& load_done_bytes_;
  prometheus::Gauge& load_total_bytes_;
  prometheus::Gauge& slice_bytes_;
  prometheus::Gauge& slice_experts_;
};

}  // namespace sheaf
