#include "cli/expert_backend.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "base/cpu_topology.h"
#include "base/status.h"
#include "cli/data_plane.h"
#include "cli/model_identity.h"
#include "exchange/in_process_transport.h"
#include "exchange/local_expert_layer.h"
#include "exchange/remote_expert_layer.h"
#include "router/cluster/cluster_controller.h"
#include "router/cluster/cluster_service.h"
#include "router/cluster/placement.h"
#include "worker/in_process_workers.h"
#include "worker/slice_loader.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

RemoteExpertLayerOptions LayerOptions(const RouterOptions& options) {
  RemoteExpertLayerOptions result;
  result.base_timeout = milliseconds(options.expert_timeout_ms);
  return result;
}

// --workers 0.
class LocalBackend final : public ExpertBackend {
 public:
  LocalBackend(std::unique_ptr<LoadedSlice> source, const ModelConfig& config, ThreadPool& pool)
      : source_(std::move(source)), layer_(*source_, config.num_layers, config.num_experts, pool) {}
  ExpertLayer& layer() override { return layer_; }
  absl::Status Ready() override { return absl::OkStatus(); }

 private:
  const std::unique_ptr<LoadedSlice> source_;
  LocalExpertLayer layer_;
};

// Experts behind an exchange: after each step its figures go to the metrics.
class RemoteBackend : public ExpertBackend, public EngineObserver {
 public:
  explicit RemoteBackend(RouterMetrics& metrics) : metrics_(metrics) {}
  ExpertLayer& layer() override { return *layer_; }
  EngineObserver* ObserveSteps(EngineObserver& next) override {
    next_ = &next;
    return this;
  }

 protected:
  RouterMetrics& metrics_;
  std::unique_ptr<RemoteExpertLayer> layer_;

 private:
  void OnLoad(const EngineLoad& load) override { next_->OnLoad(load); }
  void OnFirstToken(Duration since_submit) override { next_->OnFirstToken(since_submit); }
  void OnNextToken(Duration since_previous) override { next_->OnNextToken(since_previous); }
  void OnRequestEnd(const RequestReport& report) override { next_->OnRequestEnd(report); }
  void OnStep(const StepReport& report) override {
    next_->OnStep(report);
    const ExchangeTotals totals = layer_->TakeTotals();
    metrics_.StepExchanged(totals.dispatch, totals.combine);
    int64_t most = 0, sum = 0;
    for (const ExchangeTotals::Worker& worker : totals.workers) {
      metrics_.BytesExchanged(worker.worker, worker.sent_bytes, worker.received_bytes);
      metrics_.ExpertTokens(worker.worker, worker.pairs);
      most = std::max(most, worker.pairs);
      sum += worker.pairs;
    }
    if (sum > 0) {
      metrics_.ImbalanceIs(static_cast<double>(most) * static_cast<double>(totals.workers.size()) /
                           static_cast<double>(sum));
    }
  }

  EngineObserver* next_ = nullptr;
};

// --transport inprocess.
class InProcessBackend final : public RemoteBackend {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertBackend>> Create(
      const RouterOptions& options, std::shared_ptr<const Checkpoint> checkpoint,
      const ModelConfig& config, ThreadPool& pool, RouterMetrics& metrics) {
    auto backend = std::make_unique<InProcessBackend>(metrics);
    SHEAF_ASSIGN_OR_RETURN(const ModelIdentity identity,
                           IdentityOf(options.process.checkpoint, config));
    ExpertPlacement placement = PlanPlacement(identity, options.workers);
    const SliceLoader load = CheckpointSliceLoader(std::move(checkpoint), config);
    std::vector<const ExpertSource*> sources;
    for (int worker = 0; worker < options.workers; ++worker) {
      std::vector<LayerExpert> slice;
      for (const ExpertRangeOfLayer& range : SliceOf(placement, WorkerId(worker))) {
        for (int e = range.begin; e < range.end; ++e) slice.push_back({range.layer, ExpertId(e)});
      }
      SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<LoadedSlice> loaded,
                             load(slice, pool, LoadProgress{}));
      backend->sources_.push_back(std::move(loaded));
      sources.push_back(backend->sources_.back().get());
    }
    const int threads =
        options.worker_threads > 0 ? options.worker_threads : DetectCpuTopology().usable_cores;
    SHEAF_ASSIGN_OR_RETURN(backend->workers_,
                           InProcessWorkers::Start(backend->transport_, std::move(sources),
                                                   std::move(placement), threads));
    backend->layer_ =
        std::make_unique<RemoteExpertLayer>(*backend->workers_, pool, LayerOptions(options));
    metrics.MembershipIs(backend->workers_->epoch(), options.workers);
    return backend;
  }
  explicit InProcessBackend(RouterMetrics& metrics) : RemoteBackend(metrics) {}
  absl::Status Ready() override { return absl::OkStatus(); }

 private:
  InProcessTransport transport_;
  std::vector<std::unique_ptr<LoadedSlice>> sources_;
  std::unique_ptr<InProcessWorkers> workers_;
};

// Worker processes that join over gRPC.
class ClusterBackend final : public RemoteBackend, public ClusterObserver {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertBackend>> Create(const RouterOptions& options,
                                                               const ModelConfig& config,
                                                               ThreadPool& pool, const Clock& clock,
                                                               RouterMetrics& metrics) {
    auto backend = std::make_unique<ClusterBackend>(metrics);
    ClusterOptions cluster;
    cluster.num_workers = options.workers;
    cluster.lease = milliseconds(options.lease_ms);
    SHEAF_ASSIGN_OR_RETURN(cluster.model, IdentityOf(options.process.checkpoint, config));
    SHEAF_ASSIGN_OR_RETURN(backend->transport_, MakeTransport(options.transport));
    backend->controller_ =
        std::make_unique<ClusterController>(cluster, *backend->transport_, clock, backend.get());
    backend->service_ = std::make_unique<ClusterService>(*backend->controller_);
    backend->layer_ =
        std::make_unique<RemoteExpertLayer>(*backend->controller_, pool, LayerOptions(options));
    return backend;
  }
  explicit ClusterBackend(RouterMetrics& metrics) : RemoteBackend(metrics) {}

  absl::Status Ready() override { return controller_->Ready(); }
  grpc::Service* cluster_service() override { return service_.get(); }
  std::vector<int> TakeSuspectPids() override {
    std::lock_guard lock(mutex_);
    return std::exchange(suspect_pids_, {});
  }
  void Stop() override { controller_->Stop(); }

 private:
  void OnChange(const ClusterSnapshot& snapshot) override {
    metrics_.MembershipIs(snapshot.epoch, snapshot.live_workers);
    spdlog::info("cluster: {}", snapshot.text);
  }
  void OnWorkerLost(const LostWorker& lost) override {
    if (lost.left || !lost.hung || lost.member.pid <= 0) return;
    std::lock_guard lock(mutex_);
    suspect_pids_.push_back(static_cast<int>(lost.member.pid));
  }

  std::unique_ptr<Transport> transport_;
  std::mutex mutex_;
  std::vector<int> suspect_pids_;  // guarded by mutex_
  std::unique_ptr<ClusterController> controller_;
  std::unique_ptr<ClusterService> service_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertBackend>> ExpertBackend::Create(
    const RouterOptions& options, std::shared_ptr<const Checkpoint> checkpoint,
    const ModelConfig& config, ThreadPool& pool, const Clock& clock, RouterMetrics& metrics) {
  if (options.workers > 0) {
    return options.transport == TransportKind::kInProcess
               ? InProcessBackend::Create(options, std::move(checkpoint), config, pool, metrics)
               : ClusterBackend::Create(options, config, pool, clock, metrics);
  }
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<LoadedSlice> slice,
                         CheckpointSliceLoader(std::move(checkpoint), config)(
                             AllExperts(config), pool, LoadProgress{}));
  spdlog::info("{} experts in this process, {:.1f} MB", slice->num_experts(),
               static_cast<double>(slice->resident_bytes()) / 1e6);
  return std::make_unique<LocalBackend>(std::move(slice), config, pool);
}

}  // namespace sheaf
