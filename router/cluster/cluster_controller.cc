#include "router/cluster/cluster_controller.h"

#include <spdlog/spdlog.h>

#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/bounded_queue.h"
#include "router/cluster/placement.h"

namespace sheaf {
namespace {

constexpr size_t kMaxEvents = 4096;
constexpr Duration kTick = std::chrono::milliseconds(50);
constexpr Duration kJoinTimeout = std::chrono::seconds(10);
constexpr size_t kMaxNameBytes = 255;

using SessionPtr = std::shared_ptr<WorkerSession>;

struct SessionOpened {
  SessionPtr session;
};
struct SessionMessage {
  SessionPtr session;
  v1::WorkerMessage message;
};
struct SessionClosed {
  SessionPtr session;
};
struct DataPlaneFault {
  Epoch epoch;
  LinkFault fault;
};
using Event = std::variant<SessionOpened, SessionMessage, SessionClosed, DataPlaneFault>;

ModelIdentity FromProto(const v1::ModelIdentity& model) {
  return {model.config_hash(), model.num_layers(), model.first_moe_layer(), model.num_experts(),
          model.hidden_size()};
}

std::string Show(const ModelIdentity& model) {
  return absl::StrFormat("config %016x, %d layers (MoE from %d), %d experts, hidden %d",
                         model.config_hash, model.num_layers, model.first_moe_layer,
                         model.num_experts, model.hidden_size);
}

}  // namespace

struct ClusterController::Impl {
  Impl(ClusterOptions chosen, Transport& given_transport, const Clock& given_clock,
       ClusterObserver* given_observer)
      : options(std::move(chosen)),
        transport(given_transport),
        clock(given_clock),
        observer(given_observer),
        placement(std::make_shared<const ExpertPlacement>(
            PlanPlacement(options.model, options.num_workers))),
        events(kMaxEvents),
        membership(options.num_workers, options.lease, options.phase_timeout, clock),
        sessions(static_cast<size_t>(options.num_workers)) {}

  // Constant after construction.
  const ClusterOptions options;
  Transport& transport;
  const Clock& clock;
  ClusterObserver* const observer;
  const std::shared_ptr<const ExpertPlacement> placement;

  BoundedQueue<Event> events;
  std::thread thread;

  // The controller's thread only.
  Membership membership;
  std::vector<SessionPtr> sessions;           // by slot; null = vacant
  std::map<SessionPtr, TimePoint> strangers;  // opened, not joined yet
  std::shared_ptr<RouterLink> link;           // of membership.epoch()
  TimePoint retry_open_at;

  mutable std::mutex mutex;
  OpenEpoch open;               // guarded by mutex; link null = none
  absl::Status closed_because;  // guarded by mutex; why there is none
  ClusterSnapshot published;    // guarded by mutex

  void Run() {
    Publish();
    for (;;) {
      std::optional<Event> event = events.PopUntil(std::chrono::steady_clock::now() + kTick);
      if (!event.has_value() && events.closed()) break;
      if (event.has_value()) std::visit([&](auto& what) { Handle(what); }, *event);
      for (const ExpiredMember& expired : membership.Expired())
        Lose(expired.worker, expired.reason, true, false);
      ExpireStrangers();
      Advance();
      Publish();
    }
    ClosePlane(absl::UnavailableError("the router is shutting down"));
    for (SessionPtr& session : sessions) {
      if (session != nullptr)
        Dismiss(*session, absl::UnavailableError("the router is shutting down"));
      session = nullptr;
    }
    for (const auto& [session, since] : strangers)
      session->End(absl::UnavailableError("the router is shutting down"));
    strangers.clear();
  }

  std::optional<WorkerId> SlotOf(const SessionPtr& session) const {
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (sessions[i] == session) return WorkerId(static_cast<int32_t>(i));
    }
    return std::nullopt;
  }

  void Handle(SessionOpened& event) { strangers[event.session] = clock.Now(); }

  void Handle(SessionMessage& event) {
    const std::optional<WorkerId> worker = SlotOf(event.session);
    if (!worker.has_value()) {
      if (strangers.erase(event.session) == 0)
        return;  // dismissed already; what it still says is void
      if (absl::Status joined = Join(event.session, event.message); !joined.ok()) {
        spdlog::warn("a worker may not join: {}", std::string(joined.message()));
        event.session->End(joined);
      }
      return;
    }
    membership.Renew(*worker);  // any message is a sign of life
    const absl::Status status = Understand(*worker, event.message);
    if (!status.ok()) Lose(*worker, std::string(status.message()), false, false);
  }

  void Handle(SessionClosed& event) {
    strangers.erase(event.session);
    if (const std::optional<WorkerId> worker = SlotOf(event.session))
      Lose(*worker, "its session ended", false, false);
  }

  void Handle(DataPlaneFault& event) {
    if (event.epoch != membership.epoch() || membership.phase() != EpochPhase::kOpen)
      return;  // dealt with
    spdlog::error("epoch {} is broken: {}", event.epoch.value(),
                  std::string(event.fault.status.message()));
    for (const WorkerId worker : event.fault.suspects) {
      Lose(worker, std::string(event.fault.status.message()), !event.fault.certain, false);
    }
    // A fault without a suspect: the members stay, over a fresh epoch.
    ClosePlane(event.fault.status);
    membership.CloseEpoch();
  }

  absl::Status Join(const SessionPtr& session, const v1::WorkerMessage& message) {
    if (!message.has_join())
      return absl::InvalidArgumentError("the first message of a session must be join");
    const v1::Join& join = message.join();
    if (join.protocol_version() != kClusterProtocolVersion) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "protocol version: wanted %d, got %d", kClusterProtocolVersion, join.protocol_version()));
    }
    if (FromProto(join.model()) != options.model) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "model: wanted %s; got %s", Show(options.model), Show(FromProto(join.model()))));
    }
    if (join.instance().empty() || join.instance().size() > kMaxNameBytes ||
        join.host().size() > kMaxNameBytes || join.metrics_address().size() > kMaxNameBytes) {
      return absl::InvalidArgumentError(
          "join: instance is empty, or a name is longer than 255 bytes");
    }
    const MemberInfo member{join.instance(), join.pid(), join.host(), join.metrics_address()};
    const absl::StatusOr<WorkerId> slot = membership.Join(member, join.preferred_slot());
    if (!slot.ok()) return slot.status();
    sessions[static_cast<size_t>(slot->value())] = session;
    spdlog::info("worker {} joined (pid {} on {})", slot->value(), member.pid, member.host);

    v1::RouterMessage reply;
    v1::Assignment& assignment = *reply.mutable_assignment();
    assignment.set_slot(slot->value());
    assignment.set_num_slots(options.num_workers);
    assignment.set_lease_ms(
        std::chrono::duration_cast<std::chrono::milliseconds>(options.lease).count());
    for (const ExpertRangeOfLayer& range : SliceOf(*placement, *slot)) {
      v1::ExpertRange& entry = *assignment.add_slice();
      entry.set_layer(range.layer.value());
      entry.set_begin(range.begin);
      entry.set_end(range.end);
    }
    session->Send(std::move(reply));
    return absl::OkStatus();
  }

  absl::Status Understand(WorkerId worker, v1::WorkerMessage& message) {
    switch (message.message_case()) {
      case v1::WorkerMessage::kLoadProgress:
        membership.Progress(worker, message.load_progress().done_bytes(),
                            message.load_progress().total_bytes());
        return absl::OkStatus();
      case v1::WorkerMessage::kSliceReady: {
        uint64_t wanted = 0;
        for (const ExpertRangeOfLayer& range : SliceOf(*placement, worker)) {
          wanted += static_cast<uint64_t>(range.end - range.begin);
        }
        if (message.slice_ready().num_experts() != wanted) {
          return absl::InvalidArgumentError(
              absl::StrFormat("slice_ready: wanted %d experts, got %d", wanted,
                              message.slice_ready().num_experts()));
        }
        spdlog::info("worker {} is ready: {} experts, {} MiB", worker.value(), wanted,
                     message.slice_ready().slice_bytes() >> 20);
        return membership.SliceReady(worker, message.slice_ready().slice_bytes());
      }
      case v1::WorkerMessage::kEpochPrepared:
        return membership.Prepared(worker, Epoch(message.epoch_prepared().epoch()),
                                   std::move(*message.mutable_epoch_prepared()->mutable_address()));
      case v1::WorkerMessage::kEpochOpened:
        return membership.Opened(worker, Epoch(message.epoch_opened().epoch()));
      case v1::WorkerMessage::kHeartbeat: {
        v1::RouterMessage reply;
        reply.mutable_lease_renewed()->set_sequence(message.heartbeat().sequence());
        sessions[static_cast<size_t>(worker.value())]->Send(std::move(reply));
        return absl::OkStatus();
      }
      case v1::WorkerMessage::kEpochFailed:
        if (Epoch(message.epoch_failed().epoch()) != membership.epoch() ||
            membership.phase() == EpochPhase::kWaiting) {
          return absl::OkStatus();
        }
        ClosePlane(absl::UnavailableError(
            absl::StrFormat("worker %d: its end of epoch %d failed: %s", worker.value(),
                            membership.epoch().value(), message.epoch_failed().reason())));
        membership.CloseEpoch();
        retry_open_at = clock.Now() + std::chrono::milliseconds(200);
        return absl::OkStatus();
      case v1::WorkerMessage::kLeave:
        Lose(worker, absl::StrCat("it left: ", message.leave().reason()), false, true);
        return absl::OkStatus();
      case v1::WorkerMessage::kJoin:
        return absl::InvalidArgumentError("join twice");
      case v1::WorkerMessage::MESSAGE_NOT_SET:
        return absl::InvalidArgumentError("an empty message");
    }
    return absl::OkStatus();
  }

  void Dismiss(WorkerSession& session, const absl::Status& status) {
    v1::RouterMessage message;
    message.mutable_dismissed()->set_reason(std::string(status.message()));
    session.Send(std::move(message));
    session.End(status);
  }

  void Lose(WorkerId worker, const std::string& reason, bool hung, bool left) {
    SessionPtr& session = sessions[static_cast<size_t>(worker.value())];
    if (session == nullptr) return;
    const LostWorker lost{worker, membership.slots()[static_cast<size_t>(worker.value())].member,
                          reason, hung, left};
    spdlog::warn("worker {} lost: {}", worker.value(), reason);
    // First what waits for it: the step.
    const std::string prefix = absl::StrCat("worker ", worker.value());
    const bool named = reason.rfind(prefix, 0) == 0;
    ClosePlane(absl::UnavailableError(named ? reason : absl::StrCat(prefix, " lost: ", reason)));
    if (left) {
      Dismiss(*session, absl::OkStatus());
    } else {
      Dismiss(*session, absl::AbortedError(absl::StrCat("held for lost: ", reason)));
    }
    session = nullptr;
    membership.Lose(worker, reason);
    if (observer != nullptr) observer->OnWorkerLost(lost);
  }

  void ExpireStrangers() {
    for (auto at = strangers.begin(); at != strangers.end();) {
      if (clock.Now() - at->second > kJoinTimeout) {
        at->first->End(absl::InvalidArgumentError("no join within 10 s"));
        at = strangers.erase(at);
      } else {
        ++at;
      }
    }
  }

  // Nothing is sent over the current link any more; who waits on it gets `why`.
  void ClosePlane(const absl::Status& why) {
    {
      std::lock_guard lock(mutex);
      open = {};
      // The first reason is the cause; later ones follow from it.
      if (closed_because.ok()) closed_because = why;
    }
    if (link != nullptr) link->Abort(why);
    link = nullptr;
  }

  void SendToAll(const v1::RouterMessage& message) {
    for (const SessionPtr& session : sessions) {
      if (session != nullptr) session->Send(message);
    }
  }

  void Advance() {
    if (clock.Now() < retry_open_at && membership.phase() == EpochPhase::kWaiting) return;
    for (;;) {
      const NextStep step = membership.Next();
      const Epoch epoch = membership.epoch();
      v1::RouterMessage message;
      switch (step) {
        case NextStep::kNothing:
          return;
        case NextStep::kPrepare: {
          absl::StatusOr<std::unique_ptr<RouterLink>> made = transport.NewRouterLink(epoch);
          if (!made.ok()) {
            spdlog::error("epoch {}: {}", epoch.value(), std::string(made.status().message()));
            membership.CloseEpoch();
            retry_open_at = clock.Now() + std::chrono::seconds(1);
            return;
          }
          link = *std::move(made);
          message.mutable_prepare_epoch()->set_epoch(epoch.value());
          SendToAll(message);
          break;
        }
        case NextStep::kOpen:
          message.mutable_open_epoch()->set_epoch(epoch.value());
          message.mutable_open_epoch()->set_router_address(link->address());
          SendToAll(message);
          break;
        case NextStep::kConnect:
          Connect(epoch);
          break;
      }
    }
  }

  void Connect(Epoch epoch) {
    std::vector<LinkPeer> peers;
    for (size_t i = 0; i < membership.slots().size(); ++i) {
      peers.push_back({WorkerId(static_cast<int32_t>(i)), membership.slots()[i].address});
    }
    // Leases are not looked at meanwhile; the transport sees a death by itself.
    const absl::Status connected =
        link->Connect(peers, std::chrono::steady_clock::now() + options.phase_timeout);
    for (const LinkPeer& peer : peers) membership.Renew(peer.worker);
    if (!connected.ok()) {
      const LinkFault fault = link->fault();
      for (const WorkerId worker : fault.suspects) {
        Lose(worker, std::string(connected.message()), !fault.certain, false);
      }
      ClosePlane(connected);
      membership.CloseEpoch();
      retry_open_at = clock.Now() + std::chrono::milliseconds(200);
      return;
    }
    membership.Connected();
    {
      std::lock_guard lock(mutex);
      open = {link, placement};
      closed_because = absl::OkStatus();
    }
    std::string paths;
    for (const LinkPeer& peer : peers) {
      absl::StrAppendFormat(&paths, "%s%d %s", paths.empty() ? "" : ", ", peer.worker.value(),
                            link->PathTo(peer.worker));
    }
    spdlog::info("epoch {} is open: {} workers ({})", epoch.value(), peers.size(), paths);
    v1::RouterMessage message;
    message.mutable_epoch_serving()->set_epoch(epoch.value());
    SendToAll(message);
  }

  void Publish() {
    ClusterSnapshot now;
    now.epoch = membership.epoch();
    now.text = membership.Describe();
    now.slots = membership.slots();
    for (const Slot& slot : now.slots) now.live_workers += slot.state != SlotState::kVacant;
    bool changed = false;
    {
      std::lock_guard lock(mutex);
      now.ready = open.link != nullptr;
      changed = now.ready != published.ready || now.epoch != published.epoch ||
                now.text != published.text || now.live_workers != published.live_workers;
      published = now;
    }
    if (changed && observer != nullptr) observer->OnChange(now);
  }
};

ClusterController::ClusterController(ClusterOptions options, Transport& transport,
                                     const Clock& clock, ClusterObserver* observer)
    : impl_(std::make_unique<Impl>(std::move(options), transport, clock, observer)) {
  impl_->thread = std::thread([impl = impl_.get()] { impl->Run(); });
}

ClusterController::~ClusterController() { Stop(); }

void ClusterController::Stop() {
  impl_->events.Close();
  if (impl_->thread.joinable()) impl_->thread.join();
}

void ClusterController::OnOpened(std::shared_ptr<WorkerSession> session) {
  if (!impl_->events.TryPush(SessionOpened{session}))
    session->End(absl::UnavailableError("the router is shutting down"));
}

void ClusterController::OnMessage(std::shared_ptr<WorkerSession> session,
                                  v1::WorkerMessage message) {
  if (!impl_->events.TryPush(SessionMessage{session, std::move(message)})) {
    session->End(absl::UnavailableError("the router does not keep up, or is shutting down"));
  }
}

void ClusterController::OnClosed(std::shared_ptr<WorkerSession> session) {
  // Full queue: the lease will notice.
  impl_->events.TryPush(SessionClosed{std::move(session)});
}

absl::StatusOr<OpenEpoch> ClusterController::Current() {
  std::lock_guard lock(impl_->mutex);
  if (impl_->open.link != nullptr) return impl_->open;
  if (!impl_->closed_because.ok()) return impl_->closed_because;
  return absl::FailedPreconditionError("no open epoch: " + impl_->published.text);
}

void ClusterController::OnFault(Epoch epoch, const LinkFault& fault) {
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->open.link == nullptr || impl_->open.link->epoch() != epoch) return;
    impl_->open = {};
    impl_->closed_because = absl::UnavailableError(std::string(fault.status.message()));
  }
  impl_->events.TryPush(DataPlaneFault{epoch, fault});
}

absl::Status ClusterController::Ready() const {
  std::lock_guard lock(impl_->mutex);
  if (impl_->open.link != nullptr) return absl::OkStatus();
  return absl::UnavailableError("the cluster is not ready: " + impl_->published.text);
}

ClusterSnapshot ClusterController::snapshot() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->published;
}

}  // namespace sheaf
