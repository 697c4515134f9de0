#pragma once
// WorkerMetrics: every figure that an expert worker exposes, as verbs. docs/metrics.md lists the
// names; a test holds the two together.
//
// Threads    any. Ownership: the registry outlives this.

#include <array>
#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/ids.h"
#include "exchange/link/hello_refusal.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"
#include "worker/holdings/holding_loader.h"
#include "worker/serve/link_server.h"

namespace sheaf {

class WorkerMetrics final : public ServeObserver {
 public:
  WorkerMetrics(prometheus::Registry& registry, const std::string& version);

  void OnServed(const ServedDispatch& served) override;
  void OnLinks(int live_links) override;
  void OnLinkEnded(const absl::Status& why) override;
  void HelloRefused(HelloRefusal cause);
  // A session with the coordinator began.
  void JoinedAs(WorkerId id);
  void SessionEnded();
  void HoldingsAnnounced(const Holdings& holdings);
  void HoldingsAre(const HoldingFacts& facts) ABSL_LOCKS_EXCLUDED(mutex_);
  // Why this worker does not do its part of the work now, for a probe: it is no member, or it still
  // loads. Empty: it is ready.
  std::string WhyNotReady() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  prometheus::Counter& dispatches_;
  prometheus::Counter& not_held_;
  prometheus::Counter& failed_dispatches_;
  prometheus::Counter& tokens_;
  prometheus::Counter& pairs_;
  prometheus::Counter& busy_seconds_;
  prometheus::Counter& received_bytes_;
  prometheus::Counter& sent_bytes_;
  prometheus::Counter& sessions_;
  prometheus::Gauge& joined_;
  prometheus::Gauge& id_;
  prometheus::Gauge& links_;
  // Their ends by cause: closed, forged, nonsense, other.
  std::array<prometheus::Counter*, 4> links_lost_{};
  std::array<prometheus::Counter*, kHelloRefusals> refused_hellos_{};
  prometheus::Gauge& experts_;
  prometheus::Gauge& announced_experts_;
  prometheus::Gauge& resident_bytes_;
  prometheus::Gauge& load_left_bytes_;
  prometheus::Counter& loaded_bytes_;
  prometheus::Counter& loaded_experts_;
  prometheus::Counter& dropped_experts_;
  prometheus::Counter& failed_loads_;

  mutable absl::Mutex mutex_;
  HoldingFacts told_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf
