#include "cli/router/pool_backend.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/cpu_topology.h"
#include "base/host_port.h"
#include "base/status.h"
#include "cli/process/process_identity.h"
#include "cli/router/checkpoint_referee.h"
#include "cli/router/data_plane.h"
#include "cli/router/model_identity.h"
#include "cli/router/pool_observer.h"
#include "cli/router/pool_picture.h"
#include "coordinator/coordinator.h"
#include "coordinator/coordinator_metrics.h"
#include "coordinator/expert_load.h"
#include "coordinator/expert_set.h"
#include "coordinator/placement_plan.h"
#include "coordinator/pool_server.h"
#include "exchange/in_process/in_process_links.h"
#include "exchange/pool/link_pool.h"
#include "exchange/pool/pooled_expert_layer.h"
#include "model/expert_slice.h"
#include "router/cluster/in_process_pool.h"
#include "router/cluster/pool_client.h"
#include "router/cluster/remote_pool.h"
#include "router/cluster/remote_pool_status.h"
#include "worker/in_process_workers.h"
#include "worker/slice_experts.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kReportEvery{1};

// A router's links and the layer over them; after each step its figures go to the metrics.
class LinkedBackend : public ExpertBackend, private EngineObserver {
 public:
  explicit LinkedBackend(const ExpertBackendParts& parts)
      : metrics_(parts.registry),
        observer_(metrics_, [this] { OnUrgent(); }),
        clock_(parts.clock),
        dispatches_(parts.dispatches) {}

  ExpertLayer& layer() override { return *layer_; }
  absl::Status Ready() override { return links_->Ready(); }
  void SetStepIsMoot(std::function<bool()> moot) override { step_is_moot_ = std::move(moot); }
  void SetOnChange(std::function<void()> on_change) override {
    absl::MutexLock lock(&change_mutex_);
    on_change_ = std::move(on_change);
  }
  EngineObserver* ObserveSteps(EngineObserver& next) override {
    next_ = &next;
    return this;
  }
  PoolPicture Picture() const override {
    return PictureOf(links_->snapshot(), PoolPicture::Place::kThreads, nullptr);
  }
  std::optional<ExpertMap> Experts() const override {
    std::vector<double> load;
    {
      absl::MutexLock lock(&load_mutex_);
      if (load_) load.assign(load_->pairs().begin(), load_->pairs().end());
    }
    return MapOf(links_->model(), links_->snapshot(), std::move(load));
  }

 protected:
  absl::Status Connect(const ExpertBackendParts& parts, const ModelIdentity& model,
                       InstanceId router, std::unique_ptr<LinkConnector> connector) {
    const RouterOptions& options = parts.options;
    LinkPoolOptions pool;
    pool.model = model;
    pool.router = router;
    pool.rows_of_8_bits = options.activation_bits == kernels::ActivationBits::k8;
    pool.times.late_floor = milliseconds(options.late_floor_ms);
    SHEAF_ASSIGN_OR_RETURN(
        links_, LinkPool::Create(pool, std::move(connector), parts.clock, &observer_));
    PooledExpertLayerOptions layer;
    layer.combine_element =
        options.int16_combine ? FrameElement::kInt16Groups : FrameElement::kFloat32;
    layer.machine.give_up_after = milliseconds(options.expert_timeout_ms);
    layer.machine.verify_share = options.verify_share;
    layer.share_cores = options.experts_share_cores;
    layer.wait = WaitOf(options.exchange_wait);
    layer.give_up = [this] { return step_is_moot_ && step_is_moot_(); };
    SHEAF_ASSIGN_OR_RETURN(layer.referee, MakeCheckpointReferee(parts.checkpoint, parts.config,
                                                                layer.combine_element));
    layer_ = std::make_unique<PooledExpertLayer>(*links_, parts.pool, layer, &observer_);
    absl::MutexLock lock(&load_mutex_);
    load_.emplace(ExpertGrid::Of(model).size(), kLoadHalfLife);
    return absl::OkStatus();
  }
  // Something should be reported, or has become better.
  virtual void OnUrgent() {
    absl::MutexLock lock(&change_mutex_);
    if (on_change_) on_change_();
  }
  // (token, expert) pairs of about a second, [layers with experts][experts]; the step thread.
  virtual void OnPairs(const std::vector<uint32_t>& /*pairs*/) {}

  PoolMetrics metrics_;
  PoolObserver observer_;
  const Clock& clock_;
  DispatchHistory* const dispatches_;
  std::unique_ptr<LinkPool> links_;
  std::unique_ptr<PooledExpertLayer> layer_;

 private:
  void OnLoad(const EngineLoad& load) override { next_->OnLoad(load); }
  void OnQueue(const QueueReport& queue) override { next_->OnQueue(queue); }
  void OnCacheLost(int sequences, int64_t tokens) override {
    next_->OnCacheLost(sequences, tokens);
  }
  void OnAdmitted(Duration since_submit) override { next_->OnAdmitted(since_submit); }
  void OnPrefixLookup(int tokens, int cached_tokens) override {
    next_->OnPrefixLookup(tokens, cached_tokens);
  }
  void OnSecondTier(const SecondTierReport& report) override { next_->OnSecondTier(report); }
  void OnTold(const ToldTokens& told) override { next_->OnTold(told); }
  void OnFirstToken(Duration since_submit) override { next_->OnFirstToken(since_submit); }
  void OnNextToken(Duration since_previous) override { next_->OnNextToken(since_previous); }
  void OnRequestEnd(const RequestReport& report) override { next_->OnRequestEnd(report); }
  void OnStep(const StepReport& report) override {
    next_->OnStep(report);
    if (report.given_up) metrics_.StepGivenUp();
    const ExchangeTotals totals = layer_->TakeTotals();
    metrics_.StepExchanged(totals.dispatch, totals.combine);
    int64_t most = 0, sum = 0;
    for (const ExchangeTotals::Worker& worker : totals.workers) {
      metrics_.BytesExchanged(worker.worker, worker.sent_bytes, worker.received_bytes);
      metrics_.ExpertTokens(worker.worker, worker.pairs);
      metrics_.Answered(worker.worker, worker.answer_buckets, worker.answer_seconds);
      most = std::max(most, worker.pairs);
      sum += worker.pairs;
    }
    const auto pairs = [&](AskCause cause) {
      return totals.layers.pairs[static_cast<size_t>(cause)];
    };
    using AskedAgain = PoolMetrics::AskedAgain;
    metrics_.PairsAskedAgain(AskedAgain::kLinkLost, pairs(AskCause::kLinkLost));
    metrics_.PairsAskedAgain(AskedAgain::kNotHeld, pairs(AskCause::kNotHeld));
    metrics_.PairsAskedAgain(AskedAgain::kLate, pairs(AskCause::kLate));
    metrics_.PairsAskedAgain(AskedAgain::kError, pairs(AskCause::kError));
    metrics_.Hedges(totals.layers.hedges_won, totals.layers.hedges_lost);
    metrics_.Verified(totals.compared_pairs - totals.differing_pairs, totals.differing_pairs);
    if (sum > 0) {
      const int live = std::max(1, links_->snapshot().live_links);
      metrics_.ImbalanceIs(static_cast<double>(most) * live / static_cast<double>(sum));
    }
    if (dispatches_ != nullptr) Remember(totals, report.duration);
    CountPairs();
  }
  void Remember(const ExchangeTotals& totals, Duration duration) {
    step_dispatches_.clear();
    for (const ExchangeTotals::Worker& worker : totals.workers) {
      step_dispatches_.push_back({worker.worker, worker.answers, worker.pairs,
                                  worker.answer_seconds, worker.longest_answer_seconds});
    }
    const TimePoint now = clock_.Now();
    dispatches_->Add(now - duration, now, step_dispatches_);
  }
  void CountPairs() {
    const TimePoint now = clock_.Now();
    if (now - pairs_taken_at_ < kReportEvery) return;
    pairs_taken_at_ = now;
    const std::vector<uint32_t> pairs = layer_->TakePairCounts();
    {
      absl::MutexLock lock(&load_mutex_);
      if (load_) load_->Add(pairs, now);
    }
    OnPairs(pairs);
  }

  // Of what people are shown: what was asked for lately.
  static constexpr seconds kLoadHalfLife{60};

  EngineObserver* next_ = nullptr;
  TimePoint pairs_taken_at_;                       // the step thread's, as is:
  std::vector<WorkerDispatches> step_dispatches_;  // of the last step
  mutable absl::Mutex load_mutex_;
  std::optional<ExpertLoad> load_ ABSL_GUARDED_BY(load_mutex_);  // once connected
  std::function<bool()> step_is_moot_;
  absl::Mutex change_mutex_;
  std::function<void()> on_change_ ABSL_GUARDED_BY(change_mutex_);
};

class InProcessBackend final : public LinkedBackend {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertBackend>> Create(const ExpertBackendParts& parts) {
    auto backend = std::make_unique<InProcessBackend>(parts);
    SHEAF_ASSIGN_OR_RETURN(const ModelIdentity model, IdentityOf(*parts.checkpoint, parts.config));
    const PoolOptions& options = parts.options.pool;
    PlanRequest request;
    request.grid = ExpertGrid::Of(model);
    request.replicas = options.expert_replicas;
    for (int id = 0; id < options.workers; ++id) {
      request.workers.emplace_back().worker = WorkerId(id);
    }
    const PlacementPlan plan = PlanPlacement(request);
    std::vector<InProcessHolding> holdings;
    for (const ExpertSet& target : plan.targets) {
      InProcessHolding& holding = holdings.emplace_back();
      target.ForEach([&](size_t i) {
        holding.experts.push_back(
            {LayerId(request.grid.LayerOf(i)), ExpertId(request.grid.ExpertOf(i))});
      });
      SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<ExpertSlice> slice,
                             ExpertSlice::Load(*parts.checkpoint, parts.config, holding.experts,
                                               parts.pool, LoadProgress{}));
      backend->sources_.push_back(std::make_unique<SliceExperts>(std::move(slice), parts.config));
      holding.source = backend->sources_.back().get();
    }
    const int threads = parts.options.worker_threads > 0 ? parts.options.worker_threads
                                                         : DetectCpuTopology().default_threads();
    const InstanceId router = RandomInstance();
    SHEAF_ASSIGN_OR_RETURN(
        backend->workers_,
        InProcessWorkers::Start(backend->maker_, model, router, holdings, threads));
    SHEAF_RETURN_IF_ERROR(
        backend->Connect(parts, model, router, backend->maker_.NewConnector()));
    backend->links_->SetWorkers(backend->workers_->endpoints());
    return backend;
  }
  explicit InProcessBackend(const ExpertBackendParts& parts)
      : LinkedBackend(parts), maker_(network_) {}
  ~InProcessBackend() override {
    layer_ = nullptr;
    links_ = nullptr;  // before the workers that its links lead to
  }

 private:
  InProcessNetwork network_;
  InProcessLinkMaker maker_;
  std::vector<std::unique_ptr<SliceExperts>> sources_;
  std::unique_ptr<InProcessWorkers> workers_;
};

class PoolBackend final : public LinkedBackend, private CoordinatorObserver {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertBackend>> Create(const ExpertBackendParts& parts) {
    auto backend = std::make_unique<PoolBackend>(parts);
    SHEAF_RETURN_IF_ERROR(backend->Open(parts));
    return backend;
  }
  explicit PoolBackend(const ExpertBackendParts& parts) : LinkedBackend(parts) {}
  ~PoolBackend() override { Stop(); }

  absl::Status Ready() override {
    absl::Status status = links_->Ready();
    if (status.ok()) return status;
    // What is being waited for is the coordinator's to say, as long as somebody is missing.
    const std::string text = client_->snapshot().text;
    return text.empty() ? status
                        : absl::UnavailableError(text + "; " + std::string(status.message()));
  }
  std::string cluster_address() const override { return listener_ ? listener_->address() : ""; }
  PoolPicture Picture() const override {
    std::shared_ptr<const v1::PoolStatus> status =
        coordinator_ ? std::make_shared<const v1::PoolStatus>(coordinator_->status())
                     : remote_status_->Get();
    PoolPicture picture =
        PictureOf(links_->snapshot(), PoolPicture::Place::kWorkers, status.get());
    if (!status) picture.text = client_->snapshot().text;
    return picture;
  }
  std::vector<int> TakeHungPids() override;
  absl::Status broken_checkpoint() override {
    absl::MutexLock lock(&report_mutex_);
    return broken_checkpoint_;
  }
  void Stop() override;

 private:
  absl::Status Open(const ExpertBackendParts& parts);
  void OnUrgent() override {
    {
      absl::MutexLock lock(&report_mutex_);
      urgent_ = true;
    }
    LinkedBackend::OnUrgent();
  }
  void OnPairs(const std::vector<uint32_t>& pairs) override;
  void OnWorkerLost(const LostWorker& lost) override;
  void OnExpertRefused(const RefusedExpert& refused) override {
    absl::MutexLock lock(&report_mutex_);
    if (refused.permanent && broken_checkpoint_.ok()) {
      broken_checkpoint_ = absl::InvalidArgumentError(refused.reason);
    }
  }
  void ReportLoop();
  v1::RouterReport MakeReport();

  // A worker of this host whose lease has ended, and that has not come back, is taken for hung
  // after this: whoever started it should start it again. A pause of a few seconds is not that.
  static constexpr seconds kHungAfter{20};
  struct Silent {
    InstanceId instance;
    int pid = 0;
    TimePoint since;
  };

  std::string host_;
  std::unique_ptr<LinkMaker> maker_;
  std::unique_ptr<CoordinatorMetrics> coordinator_metrics_;
  std::unique_ptr<Coordinator> coordinator_;  // null: elsewhere
  std::unique_ptr<PoolServer> listener_;
  std::unique_ptr<PoolClient> client_;
  std::unique_ptr<RemotePoolStatus> remote_status_;  // null: the coordinator is here

  absl::Mutex report_mutex_;
  bool urgent_ ABSL_GUARDED_BY(report_mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(report_mutex_) = false;
  std::vector<uint32_t> pairs_ ABSL_GUARDED_BY(report_mutex_);  // since the last report
  std::vector<Silent> silent_ ABSL_GUARDED_BY(report_mutex_);
  absl::Status broken_checkpoint_ ABSL_GUARDED_BY(report_mutex_);
  std::map<WorkerId, int64_t> told_failures_;  // the report thread's
  std::thread reporter_;
};

absl::Status PoolBackend::Open(const ExpertBackendParts& parts) {
  const RouterOptions& options = parts.options;
  SHEAF_ASSIGN_OR_RETURN(const ModelIdentity model, IdentityOf(*parts.checkpoint, parts.config));
  SHEAF_ASSIGN_OR_RETURN(const std::string token, ReadToken(options.pool.cluster_token_file));
  host_ = HostName();
  maker_ = MakeRouterLinks(options.transport, options.exchange_integrity);
  PoolClientOptions client;
  client.model = model;
  client.instance = RandomInstance();
  client.host = host_;
  client.pid = getpid();
  client.version = SHEAF_VERSION;
  client.token = token;
  SHEAF_RETURN_IF_ERROR(Connect(parts, model, client.instance, maker_->NewConnector()));

  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<TlsIdentity> tls,
                         OpenClusterTls(options.pool.tls, parts.tls_report));
  OpenPoolStream open;
  if (options.coordinator.empty()) {
    CoordinatorOptions coordinator;
    coordinator.pool.model = model;
    coordinator.pool.token = token;
    coordinator.pool.expected_workers = options.pool.workers;
    coordinator.pool.replicas = options.pool.expert_replicas;
    coordinator.pool.lease = milliseconds(options.pool.lease_ms);
    coordinator_metrics_ = std::make_unique<CoordinatorMetrics>(parts.registry);
    coordinator_ = std::make_unique<Coordinator>(
        coordinator, clock_, static_cast<CoordinatorObserver*>(this), coordinator_metrics_.get());
    const std::string& host =
        options.pool.cluster_host.empty() ? options.host : options.pool.cluster_host;
    WarnIfExposed("the cluster port", host, tls != nullptr,
                  token.empty() ? "may join as a worker or a router, and drain the pool"
                                : "and knows the token may join as a worker or a router");
    SHEAF_ASSIGN_OR_RETURN(
        listener_, PoolServer::Start({host, options.pool.cluster_port, tls}, *coordinator_));
    open = InProcessPool(*coordinator_);
  } else {
    open = RemotePool(options.coordinator, tls);
    remote_status_ = std::make_unique<RemotePoolStatus>(options.coordinator, token, clock_, tls);
  }
  client_ = std::make_unique<PoolClient>(
      client, clock_, std::move(open),
      [this](std::vector<WorkerEndpoint> workers) { links_->SetWorkers(std::move(workers)); });
  reporter_ = std::thread([this] { ReportLoop(); });
  return absl::OkStatus();
}

void PoolBackend::OnPairs(const std::vector<uint32_t>& pairs) {
  absl::MutexLock lock(&report_mutex_);
  pairs_.resize(pairs.size(), 0);
  for (size_t i = 0; i < pairs.size(); ++i) pairs_[i] += pairs[i];
}

v1::RouterReport PoolBackend::MakeReport() {
  v1::RouterReport report;
  {
    absl::MutexLock lock(&report_mutex_);
    report.mutable_pairs()->Add(pairs_.begin(), pairs_.end());
    pairs_.clear();
  }
  const LinkPoolSnapshot snapshot = links_->snapshot();
  std::map<WorkerId, InstanceId> instances;
  for (const WorkerLinkStatus& link : snapshot.workers) {
    instances[link.worker] = link.instance;
    int64_t& told = told_failures_[link.worker];
    if (link.failures < told) told = 0;  // another link entry of the same id
    v1::LinkReport& entry = *report.add_links();
    entry.set_worker_id(link.worker.value());
    entry.set_instance(link.instance.value());
    entry.set_live(link.live);
    entry.set_failures(static_cast<int32_t>(link.failures - told));
    entry.set_reason(link.live ? "" : link.reason);
    entry.set_seconds_per_unit(link.seconds_per_unit);
    told = link.failures;
  }
  PoolObserver::News news = observer_.TakeNews();
  for (const LayerExpert& orphan : snapshot.orphans) {
    if (!snapshot.complete && !news.orphans.empty()) news.orphans.insert(orphan);
  }
  for (const LayerExpert& orphan : news.orphans) {
    v1::ExpertRange& range = *report.add_orphans();
    range.set_layer(orphan.layer.value());
    range.set_begin(orphan.expert.value());
    range.set_end(orphan.expert.value() + 1);
  }
  for (const PoolObserver::WrongAnswer& wrong : news.wrong_answers) {
    v1::WrongAnswer& entry = *report.add_wrong_answers();
    entry.set_worker_id(wrong.worker.value());
    entry.set_instance(instances[wrong.worker].value());
    entry.set_layer(wrong.expert.layer.value());
    entry.set_expert(wrong.expert.expert.value());
  }
  return report;
}

void PoolBackend::ReportLoop() {
  for (;;) {
    {
      absl::MutexLock lock(&report_mutex_);
      const auto due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(report_mutex_) {
        return urgent_ || stopping_;
      };
      report_mutex_.AwaitWithTimeout(absl::Condition(&due), absl::FromChrono(kReportEvery));
      if (stopping_) return;
      urgent_ = false;
    }
    client_->Report(MakeReport());
  }
}

void PoolBackend::OnWorkerLost(const LostWorker& lost) {
  if (lost.cause != LossCause::kLease || lost.pid <= 0 || lost.host != host_) return;
  absl::MutexLock lock(&report_mutex_);
  silent_.push_back({lost.instance, static_cast<int>(lost.pid), clock_.Now()});
}

std::vector<int> PoolBackend::TakeHungPids() {
  std::vector<InstanceId> linked;
  for (const WorkerLinkStatus& link : links_->snapshot().workers) {
    if (link.live) linked.push_back(link.instance);
  }
  std::vector<int> hung;
  absl::MutexLock lock(&report_mutex_);
  std::erase_if(silent_, [&](const Silent& worker) {
    if (std::find(linked.begin(), linked.end(), worker.instance) != linked.end()) return true;
    if (clock_.Now() - worker.since < kHungAfter) return false;
    hung.push_back(worker.pid);
    return true;
  });
  return hung;
}

void PoolBackend::Stop() {
  {
    absl::MutexLock lock(&report_mutex_);
    stopping_ = true;
  }
  if (reporter_.joinable()) reporter_.join();
  if (client_) client_->Stop();
  if (coordinator_) coordinator_->Stop();
  if (listener_) listener_->Stop();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertBackend>> MakePoolBackend(const ExpertBackendParts& parts) {
  return PoolBackend::Create(parts);
}

absl::StatusOr<std::unique_ptr<ExpertBackend>> MakeInProcessBackend(
    const ExpertBackendParts& parts) {
  return InProcessBackend::Create(parts);
}

}  // namespace sheaf
