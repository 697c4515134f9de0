#pragma once
// PoolObserver: what happens to a router's links and layers, as lines for the log, figures, and
// what the coordinator is to hear of (wrong answers, experts that a step waits for).
//
// Threads    the observers' calls: as they say. TakeNews: any.
// Ownership  borrows the metrics. on_urgent is called when something should be reported now; it
//            must not block.

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/log_limit.h"
#include "exchange/pool/link_observer.h"
#include "exchange/pool/pooled_expert_layer.h"
#include "router/metrics/pool_metrics.h"

namespace sheaf {

class PoolObserver final : public LinkPoolObserver, public PooledLayerObserver {
 public:
  PoolObserver(PoolMetrics& metrics, std::function<void()> on_urgent)
      : metrics_(metrics), on_urgent_(std::move(on_urgent)) {}

  struct WrongAnswer {
    WorkerId worker;
    LayerExpert expert;
  };
  struct News {
    std::vector<WrongAnswer> wrong_answers;
    std::set<LayerExpert> orphans;
  };
  // What was not taken before.
  News TakeNews() ABSL_LOCKS_EXCLUDED(mutex_);

  void OnLinkUp(WorkerId worker, const std::string& path) override;
  void OnLinkDown(WorkerId worker, const absl::Status& why) override;
  void OnConnectFailed(WorkerId worker, const absl::Status& why) override;
  void OnCoverage(const ExpertTable::Coverage& coverage, int live_links) override;
  void OnLateAnswer(WorkerId worker) override;

  void OnWrongAnswer(WorkerId worker, LayerId layer, ExpertId expert) override;
  void OnUndecided(WorkerId first, WorkerId second, LayerId layer, ExpertId expert) override;
  void OnGivenUp(LayerId layer, const absl::Status& why,
                 std::span<const ExpertId> orphans) override;

 private:
  PoolMetrics& metrics_;
  const std::function<void()> on_urgent_;
  LogLimit forged_frames_;

  absl::Mutex mutex_;
  News news_ ABSL_GUARDED_BY(mutex_);
  bool told_complete_ ABSL_GUARDED_BY(mutex_) = false;
  std::string given_up_because_ ABSL_GUARDED_BY(mutex_);  // last line of that kind
};

}  // namespace sheaf
