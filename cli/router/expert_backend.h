#pragma once
// ExpertBackend: where this router's experts are: in its own process (--workers 0), in threads of
// it (--transport inprocess) or in worker processes of a pool. The decoder sees an ExpertLayer, the
// engine a readiness.
//
// Threads    layer(), ObserveSteps: the step thread; the rest: any.
// Ownership  borrows pool, clock and registry.
// Errors     Create: those of loading the experts, for the first two; of the cluster port.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "cli/options/options.h"
#include "exchange/expert_layer.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "network/tls/tls_report.h"
#include "prometheus/registry.h"
#include "router/schedule/engine_observer.h"
#include "router/ui/expert_map.h"
#include "router/ui/pool_picture.h"
#include "tracing/dispatch_history.h"

namespace sheaf {

// What a backend is made from.
struct ExpertBackendParts {
  const RouterOptions& options;
  std::shared_ptr<const Checkpoint> checkpoint;
  const ModelConfig& config;
  ThreadPool& pool;
  const Clock& clock;
  prometheus::Registry& registry;
  std::shared_ptr<TlsReport> tls_report;
  DispatchHistory* dispatches = nullptr;  // hears of each step's; null: nobody asks
};

class ExpertBackend {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertBackend>> Create(const ExpertBackendParts& parts);
  virtual ~ExpertBackend() = default;

  virtual ExpertLayer& layer() = 0;
  // OK when every expert can be reached; else the reason, naming the worker.
  virtual absl::Status Ready() = 0;
  // Polled while a step waits for an answer: true gives it up. Set before the first step.
  virtual void SetStepIsMoot(std::function<bool()> /*moot*/) {}
  // Called when somebody may have become ready.
  virtual void SetOnChange(std::function<void()> /*on_change*/) {}
  // The observer to give to the engine: it also reports exchange figures once a step. Borrows
  // `next`.
  virtual EngineObserver* ObserveSteps(EngineObserver& next) { return &next; }
  // Not OK: a worker cannot load an expert, and never will be able to, from the files that it has.
  virtual absl::Status broken_checkpoint() { return absl::OkStatus(); }
  // host:port that workers join at; empty: none join here.
  virtual std::string cluster_address() const { return ""; }
  // Process ids of workers of this host that have hung for long. Each is returned once.
  virtual std::vector<int> TakeHungPids() { return {}; }
  // For people: the links, the members, who holds what. From any thread, cheap enough for once a
  // second.
  virtual PoolPicture Picture() const { return {}; }
  virtual std::optional<ExpertMap> Experts() const { return std::nullopt; }
  virtual void Stop() {}
};

}  // namespace sheaf
