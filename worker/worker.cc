#include "worker/worker.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "base/one_line.h"
#include "base/status.h"
#include "worker/holdings/expert_store.h"
#include "worker/holdings/holding_loader.h"
#include "worker/serve/link_server.h"
#include "worker/serve/refused_hellos.h"
#include "worker/session/coordinator_messages.h"
#include "worker/session/coordinator_session.h"
#include "worker/session/worker_state.h"
#include "worker/worker_inbox.h"

namespace sheaf {
namespace {

constexpr size_t kMaxReasonBytes = 500;

TimePoint Now() { return std::chrono::steady_clock::now(); }

WorkerStateOptions StateOptions(const WorkerConfig& config) {
  WorkerStateOptions options;
  options.coordinator = config.coordinator;
  options.preferred_id = config.preferred_id;
  options.first_back_off = config.first_back_off;
  options.max_back_off = config.max_back_off;
  options.silence_floor = config.silence_floor;
  options.join_patience = config.join_patience;
  options.leave_patience = config.leave_patience;
  return options;
}

HoldingPlanOptions PlanOptions(const WorkerConfig& config) {
  HoldingPlanOptions options;
  options.num_layers = config.model.num_layers;
  options.num_experts = config.model.num_experts;
  options.seen_patience = config.seen_patience;
  return options;
}

std::string Reason(const std::string& text) { return OneLine(text).substr(0, kMaxReasonBytes); }

}  // namespace

class Worker::Life final : public HoldingEvents, public ServeObserver {
 public:
  Life(WorkerConfig config, ExpertEngine& engine, LinkMaker& links, WorkerMetrics& metrics)
      : config_(std::move(config)),
        engine_(engine),
        links_(links),
        metrics_(metrics),
        store_(config_.model.num_layers, config_.model.num_experts,
               [&engine](ThreadPool& pool) { return engine.NewCompute(pool); }),
        state_(StateOptions(config_), std::random_device{}(), Now()) {}

  absl::Status Run();
  void Stop() { inbox_.PostStop(); }
  Rounds rounds() const {
    return {control_rounds_.load(std::memory_order_relaxed),
            compute_rounds_.load(std::memory_order_relaxed)};
  }

 private:
  // HoldingEvents, from a lane.
  void OnHoldings(const Holdings& holdings) override {
    server_->Announce(holdings);
    inbox_.PostHoldings(holdings);
  }
  void OnHoldFailed(uint64_t hold_number, const LayerExpert& pair,
                    const absl::Status& why) override {
    inbox_.PostHoldFailure(hold_number, pair, why);
  }
  void OnHoldingFacts(const HoldingFacts& facts) override {
    metrics_.HoldingsAre(facts);
    inbox_.PostFacts(facts);
  }
  // ServeObserver, from the compute thread.
  void OnServed(const ServedDispatch& served) override {
    metrics_.OnServed(served);
    if (served.outcome == ServedDispatch::Outcome::kCombine)
      pairs_.fetch_add(static_cast<uint64_t>(served.pairs), std::memory_order_relaxed);
    busy_ns_.fetch_add(std::chrono::nanoseconds(served.busy).count(), std::memory_order_relaxed);
  }
  void OnRound() override { compute_rounds_.fetch_add(1, std::memory_order_relaxed); }
  void OnLinks(int live_links) override {
    metrics_.OnLinks(live_links);
    inbox_.PostLinks(live_links);
  }
  void OnLinkEnded(const absl::Status& why) override { metrics_.OnLinkEnded(why); }

  // From the listener's thread.
  void OnRefused(const RefusedHello& refused) {
    metrics_.HelloRefused(refused.cause);
    refused_hellos_.Tell(refused, Now());
  }

  absl::Status Start();
  void End();
  void Hear(WorkerNews news);
  void Understand(const v1::ToWorker& message, TimePoint received);
  void HearOfHoldings(const WorkerNews& news);
  // Something when Run is over.
  std::optional<absl::Status> Do(WorkerAction action);
  void Connect();
  void TellHoldings();
  v1::FromWorker Hello();
  v1::FromWorker Beat(uint64_t sequence);

  const WorkerConfig config_;
  ExpertEngine& engine_;
  LinkMaker& links_;
  WorkerMetrics& metrics_;
  WorkerInbox inbox_;
  ExpertStore store_;
  RefusedHellos refused_hellos_;
  std::atomic<uint64_t> pairs_{0};
  std::atomic<int64_t> busy_ns_{0};
  std::atomic<uint64_t> control_rounds_{0};
  std::atomic<uint64_t> compute_rounds_{0};

  // The control thread's.
  WorkerState state_;
  std::unique_ptr<Bell> bell_;
  std::unique_ptr<HoldingLoader> loader_;
  std::unique_ptr<LinkServer> server_;
  std::unique_ptr<LinkListener> listener_;
  std::unique_ptr<CoordinatorSession> session_;
  uint64_t session_number_ = 0;
  int live_links_ = 0;
  Holdings announced_;
  uint64_t told_holdings_ = 0;  // their number, in this session
  bool loading_ = false;
};

absl::Status Worker::Life::Start() {
  SHEAF_ASSIGN_OR_RETURN(bell_, Bell::Create());
  engine_.WatchForLoss([this](const absl::Status& why) { inbox_.PostEngineLost(why); });
  loader_ = std::make_unique<HoldingLoader>(PlanOptions(config_), engine_, store_, *this);
  announced_ = loader_->announced();
  server_ = std::make_unique<LinkServer>(
      config_.model, config_.threads, store_, announced_, *bell_,
      [loader = loader_.get()](uint64_t number) { loader->Seen(number); }, this, config_.wait);
  LinkListenerOptions listen;
  listen.self = {config_.model.digest, config_.instance, config_.secret, engine_.takes_8_bits()};
  listen.on_refused = [this](const RefusedHello& refused) { OnRefused(refused); };
  SHEAF_ASSIGN_OR_RETURN(
      listener_, links_.Listen(listen, *bell_,
                               [server = server_.get()](std::unique_ptr<FrameLink> link,
                                                        const sheaf::Hello& hello) {
                                 server->AddLink(std::move(link), hello);
                               }));
  return absl::OkStatus();
}

void Worker::Life::End() {
  engine_.WatchForLoss({});
  session_ = nullptr;
  listener_ = nullptr;
  // before the server, which it tells; it is told until then
  if (loader_ != nullptr) loader_->Stop();
  server_ = nullptr;
  loader_ = nullptr;
}

absl::Status Worker::Life::Run() {
  absl::Status result = Start();
  for (bool over = !result.ok(); !over;) {
    // All that is there first, then the time: what waits in the inbox is no silence.
    WorkerNews news = inbox_.Wait(state_.next_tick());
    if (news.engine_lost.has_value()) {
      result = *std::move(news.engine_lost);
      break;
    }
    Hear(std::move(news));
    for (WorkerAction& action : state_.Tick(Now())) {
      if (std::optional<absl::Status> end = Do(std::move(action)); end.has_value()) {
        result = *std::move(end);
        over = true;
        break;
      }
    }
    if (state_.member() && announced_.number != told_holdings_) TellHoldings();
    control_rounds_.fetch_add(1, std::memory_order_relaxed);
  }
  End();
  metrics_.SessionEnded();
  return result;
}

void Worker::Life::Hear(WorkerNews news) {
  for (const WorkerNews::Message& message : news.messages) {
    if (message.session == session_number_) Understand(message.message, message.received);
  }
  if (news.flooded_session != 0 && news.flooded_session == session_number_) {
    state_.OnNonsense(absl::ResourceExhaustedError("more messages than there is room for"), Now());
  }
  for (const WorkerNews::SessionEnd& end : news.session_ends) {
    if (end.session != session_number_) continue;
    metrics_.SessionEnded();
    state_.OnSessionEnded(end.status, end.at);
  }
  if (news.links.has_value()) {
    live_links_ = *news.links;
    state_.OnLinks(live_links_);
  }
  HearOfHoldings(news);
  for (int i = 0; i < news.stops; ++i) {
    spdlog::info("asked to stop");
    state_.OnStop(Now());
  }
}

void Worker::Life::HearOfHoldings(const WorkerNews& news) {
  if (news.holdings.has_value()) {
    announced_ = *news.holdings;
    metrics_.HoldingsAnnounced(announced_);
  }
  for (const WorkerNews::HoldFailure& failure : news.hold_failures) {
    const std::string reason = Reason(std::string(failure.why.message()));
    spdlog::error("layer {} expert {} cannot be loaded: {}", failure.pair.layer.value(),
                  failure.pair.expert.value(), reason);
    if (!state_.member()) continue;
    v1::FromWorker message;
    v1::HoldFailed& failed = *message.mutable_hold_failed();
    failed.set_number(failure.hold_number);
    failed.set_layer(failure.pair.layer.value());
    failed.set_expert(failure.pair.expert.value());
    failed.set_reason(reason);
    failed.set_permanent(!MayBeTransient(failure.why));
    session_->Send(std::move(message));
  }
  if (!news.facts.has_value()) return;
  const HoldingFacts& facts = *news.facts;
  if (loading_ && facts.quiet) {
    spdlog::info("holds {} experts, {:.1f} MiB", facts.num_held,
                 static_cast<double>(facts.resident_bytes) / (1 << 20));
    loading_ = false;
  }
  if (facts.quiet) {
    state_.OnHoldingsSettled(facts.num_held == 0);
  } else {
    state_.OnHoldingsUnsettled();
  }
}

void Worker::Life::Understand(const v1::ToWorker& message, TimePoint received) {
  switch (message.message_case()) {
    case v1::ToWorker::kWelcome: {
      const absl::StatusOr<Welcome> welcome = WelcomeOf(message.welcome());
      if (!welcome.ok()) return state_.OnNonsense(welcome.status(), received);
      state_.OnWelcome(welcome->id, welcome->lease, received);
      metrics_.JoinedAs(welcome->id);
      return;
    }
    case v1::ToWorker::kHold: {
      absl::StatusOr<HoldRequest> hold = HoldRequestOf(message.hold(), config_.model);
      if (!hold.ok()) return state_.OnNonsense(hold.status(), received);
      return state_.OnHold(*std::move(hold), received);
    }
    case v1::ToWorker::kBeatSeen:
      return state_.OnBeatSeen(received);
    case v1::ToWorker::kReload: {
      const absl::StatusOr<LayerExpert> pair = ReloadOf(message.reload(), config_.model);
      if (!pair.ok()) return state_.OnNonsense(pair.status(), received);
      return state_.OnReload(*pair, received);
    }
    case v1::ToWorker::kDismissed:
      return state_.OnDismissed(Reason(message.dismissed().reason()), received);
    case v1::ToWorker::MESSAGE_NOT_SET:
      return state_.OnBeatSeen(received);  // of a later version: a sign of life
  }
}

std::optional<absl::Status> Worker::Life::Do(WorkerAction action) {
  switch (action.kind) {
    case WorkerAction::Kind::kConnect:
      Connect();
      break;
    case WorkerAction::Kind::kDisconnect:
      ++session_number_;  // what it still says is not heard
      session_ = nullptr;
      metrics_.SessionEnded();
      break;
    case WorkerAction::Kind::kSendBeat:
      session_->Send(Beat(action.sequence));
      break;
    case WorkerAction::Kind::kSendLeaving: {
      v1::FromWorker message;
      message.mutable_leaving()->set_reason("asked to stop");
      session_->Send(std::move(message));
      break;
    }
    case WorkerAction::Kind::kHold:
      spdlog::info("hold {}: {} experts", action.hold.number, action.hold.experts.size());
      loading_ = true;
      loader_->Want(std::move(action.hold));
      break;
    case WorkerAction::Kind::kReload:
      spdlog::warn("layer {} expert {} is read again: an answer of it was wrong",
                   action.pair.layer.value(), action.pair.expert.value());
      loader_->Reload(action.pair);
      break;
    case WorkerAction::Kind::kExit:
      return std::move(action.status);
  }
  return std::nullopt;
}

void Worker::Life::Connect() {
  session_ = nullptr;
  const uint64_t number = ++session_number_;
  session_ = std::make_unique<CoordinatorSession>(
      config_.coordinator, config_.tls,
      CoordinatorSession::Callbacks{
          [this, number](v1::ToWorker message, TimePoint received) {
            inbox_.PostMessage(number, std::move(message), received);
          },
          [this, number](absl::Status status, TimePoint at) {
            inbox_.PostSessionEnd(number, std::move(status), at);
          }});
  session_->Send(Hello());
}

v1::FromWorker Worker::Life::Hello() {
  v1::FromWorker message;
  v1::WorkerHello& hello = *message.mutable_hello();
  hello.set_protocol_version(kPoolProtocolVersion);
  *hello.mutable_model() = MessageOf(config_.model);
  hello.set_instance(config_.instance.value());
  hello.set_secret(std::string(config_.secret.begin(), config_.secret.end()));
  for (const std::string& address : listener_->addresses()) hello.add_addresses(address);
  hello.set_pid(config_.pid);
  hello.set_host(config_.host);
  hello.set_metrics_address(config_.metrics_address);
  hello.set_version(config_.version);
  hello.set_threads(config_.threads);
  hello.set_memory_bytes(engine_.memory_bytes());
  hello.set_expert_bytes(std::max<size_t>(1, engine_.expert_bytes()));
  hello.set_preferred_id(state_.preferred_id());
  // Not announced_: what was announced since the last news counts too.
  const Holdings holdings = loader_->announced();
  hello.set_holdings(holdings.Encode());
  told_holdings_ = holdings.number;
  announced_ = holdings;
  hello.set_spare(config_.spare);
  hello.set_token(config_.token);
  return message;
}

void Worker::Life::TellHoldings() {
  told_holdings_ = announced_.number;
  v1::FromWorker message;
  message.mutable_holdings()->set_holdings(announced_.Encode());
  session_->Send(std::move(message));
}

v1::FromWorker Worker::Life::Beat(uint64_t sequence) {
  const HoldingFacts facts = loader_->facts();
  v1::FromWorker message;
  v1::WorkerBeat& beat = *message.mutable_beat();
  beat.set_sequence(sequence);
  beat.set_resident_bytes(facts.resident_bytes);
  beat.set_hold_left_bytes(facts.left_bytes);
  beat.set_hold_number(facts.hold_number);
  beat.set_loaded_bytes(facts.loaded_bytes);
  beat.set_pairs(pairs_.load(std::memory_order_relaxed));
  beat.set_busy_seconds(static_cast<double>(busy_ns_.load(std::memory_order_relaxed)) * 1e-9);
  beat.set_links(live_links_);
  return message;
}

Worker::Worker(WorkerConfig config, ExpertEngine& engine, LinkMaker& links,
               WorkerMetrics& metrics)
    : life_(std::make_unique<Life>(std::move(config), engine, links, metrics)) {}

Worker::~Worker() = default;

absl::Status Worker::Run() { return life_->Run(); }

void Worker::Stop() { life_->Stop(); }

Worker::Rounds Worker::rounds() const { return life_->rounds(); }

}  // namespace sheaf
