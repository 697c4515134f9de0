#pragma once
// ExpertBackend: where this router's experts are: in its own process (--workers 0), in threads of
// it (--transport inprocess) or in worker processes behind a transport. The decoder sees an
// ExpertLayer, the engine a readiness.
//
// Threads    layer(): the step thread; Ready, TakeSuspectPids: any.
// Ownership  borrows pool, clock and metrics.
// Errors     Create: those of loading the experts, for the first two.

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "cli/options.h"
#include "exchange/expert_layer.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "router/metrics/router_metrics.h"
#include "router/schedule/engine_observer.h"

namespace sheaf {

class ExpertBackend {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertBackend>> Create(
      const RouterOptions& options, std::shared_ptr<const Checkpoint> checkpoint,
      const ModelConfig& config, ThreadPool& pool, const Clock& clock, RouterMetrics& metrics);
  virtual ~ExpertBackend() = default;

  virtual ExpertLayer& layer() = 0;
  // OK when every expert can be reached; else the reason, naming the worker.
  virtual absl::Status Ready() = 0;
  // To be registered on the gRPC server; null when no worker joins.
  virtual grpc::Service* cluster_service() { return nullptr; }
  // The observer to give to the engine: it also reports exchange figures once a step. Borrows
  // `next`.
  virtual EngineObserver* ObserveSteps(EngineObserver& next) { return &next; }
  virtual std::vector<int> TakeSuspectPids() { return {}; }
  virtual void Stop() {}
};

}  // namespace sheaf
