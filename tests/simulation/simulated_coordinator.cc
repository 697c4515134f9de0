#include "tests/simulation/simulated_coordinator.h"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_format.h"
#include "tests/simulation/worker/simulated_worker.h"

namespace sheaf::simulation {
namespace {

constexpr Duration kTick = std::chrono::milliseconds(50);
// What a worker needs to be heard again after something was wrong with its path.
constexpr Duration kRecovery = std::chrono::seconds(3);

}  // namespace

SimulatedCoordinator::SimulatedCoordinator(World& world, int host, const PoolStateOptions& options)
    : world_(world), options_(options), process_(world.queue, host, "coordinator") {
  ToProto(options_.model, model_);
  world_.coordinator = this;
}

SimulatedCoordinator::~SimulatedCoordinator() = default;

void SimulatedCoordinator::Start() {
  process_.Start();
  state_ = std::make_unique<PoolState>(options_);
  sessions_.clear();
  world_.network.Listen(process_, kWorkerSessionPort,
                        [this](const ChannelPtr& channel) { Accept(channel, false); });
  world_.network.Listen(process_, kRouterSessionPort,
                        [this](const ChannelPtr& channel) { Accept(channel, true); });
  world_.trace.Add(world_.now(), "coordinator starts");
  last_tick_ = world_.now();
  TickLoop();
}

void SimulatedCoordinator::Kill() {
  if (!process_.alive()) return;
  world_.trace.Add(world_.now(), "coordinator ends");
  world_.network.Killed(process_);
  process_.Kill();
  sessions_.clear();
  state_ = nullptr;
}

void SimulatedCoordinator::Accept(const ChannelPtr& channel, bool router) {
  const uint64_t id = ++last_session_;
  sessions_[id] = channel;
  if (router) {
    state_->RouterOpened(SessionId(id), world_.now());
  } else {
    state_->WorkerOpened(SessionId(id), world_.now());
  }
  channel->on_message = [this, id](const MessagePtr& message) {
    if (const auto* from = AsProto<v1::FromWorker>(message)) {
      state_->OnWorkerMessage(SessionId(id), *from, world_.now(), world_.now());
    } else if (const auto* report = AsProto<v1::FromRouter>(message)) {
      state_->OnRouterMessage(SessionId(id), *report, world_.now());
    }
    Act();
  };
  channel->on_closed = [this, id](const std::string&) {
    sessions_.erase(id);
    state_->Closed(SessionId(id), world_.now());
    Act();
  };
}

void SimulatedCoordinator::TickLoop() {
  Tick();
  process_.After(kTick, [this] { TickLoop(); });
}

void SimulatedCoordinator::Tick() {
  const TimePoint now = world_.now();
  if (world_.mutant == Mutant::kLeasesWhileAsleep) {
    // As if it had been awake all the time and had read everything.
    for (TimePoint at = last_tick_ + kTick; at < now; at += kTick) state_->Tick(at, false);
    state_->Tick(now, false);
  } else {
    state_->Tick(now, process_.unread() > 0);
  }
  last_tick_ = now;
  Act();
}

void SimulatedCoordinator::Act() {
  for (const PoolAction& action : state_->TakeActions()) {
    if (const auto* to_worker = std::get_if<SendToWorker>(&action)) {
      const auto session = sessions_.find(to_worker->session.value());
      if (to_worker->message.has_hold()) CheckHold(to_worker->session, to_worker->message.hold());
      if (session != sessions_.end()) SendProto(*session->second, to_worker->message);
    } else if (const auto* to_router = std::get_if<SendToRouter>(&action)) {
      const auto session = sessions_.find(to_router->session.value());
      if (session != sessions_.end()) SendProto(*session->second, to_router->message);
    } else if (const auto* end = std::get_if<EndSession>(&action)) {
      const auto session = sessions_.find(end->session.value());
      if (session == sessions_.end()) continue;
      const ChannelPtr channel = session->second;
      sessions_.erase(session);
      channel->Send(std::make_shared<EndMessage>(end->status), 64);
      channel->Close();
      // The transport tells of every end, also of those that were asked for.
      process_.After(std::chrono::milliseconds(1), [this, id = end->session] {
        state_->Closed(id, world_.now());
        Act();
      });
    } else if (const auto* note = std::get_if<LogNote>(&action)) {
      world_.trace.Say(world_.now(), "coordinator: " + note->text);
    } else if (const auto* lost = std::get_if<LostWorker>(&action)) {
      world_.trace.Add(world_.now(), "lost",
                       {static_cast<uint64_t>(lost->worker.value()),
                        static_cast<uint64_t>(lost->cause)});
      CheckLoss(*lost);
    }
  }
}

void SimulatedCoordinator::CheckLoss(const LostWorker& lost) {
  if (lost.cause == LossCause::kProtocol) {
    world_.invariants.Violate("protocol", absl::StrFormat("worker %d: %s", lost.worker.value(),
                                                          lost.reason));
  }
  if (lost.cause != LossCause::kLease) return;
  for (const auto& [host, worker] : world_.workers) {
    if (worker->instance() != lost.instance) continue;
    if (!worker->process().alive() || worker->process().frozen() ||
        !world_.network.Open(worker->process(), process_) ||
        world_.now() - worker->process().touched_at() < options_.lease + kRecovery) {
      return;
    }
    world_.invariants.Violate(
        "leases", absl::StrFormat("worker %d on host %d is held for lost, and nothing was wrong",
                                  lost.worker.value(), host));
  }
}

void SimulatedCoordinator::CheckHold(SessionId session, const v1::Hold& hold) {
  const Member* self = nullptr;
  for (const auto& [id, member] : state_->roster()) {
    if (member.session == session) self = &member;
  }
  if (self == nullptr || self->leaving || self->quarantine.wrong()) return;
  const ExpertGrid grid = ExpertGrid::Of(options_.model);
  ExpertSet wanted(grid.size());
  for (const v1::ExpertRange& range : hold.experts()) {
    for (int e = range.begin(); e < range.end(); ++e) wanted.Add(grid.Index(range.layer(), e));
  }
  Minus(self->held, wanted).ForEach([&](size_t i) {
    const LayerExpert pair{LayerId(grid.LayerOf(i)), ExpertId(grid.ExpertOf(i))};
    // A copy that is really there, and that its holder is not asked to drop.
    for (const auto& [id, member] : state_->roster()) {
      if (member.session == session || !member.held.Has(i)) continue;
      if (!member.sent.empty() && !member.sent.back().experts.Has(i)) continue;
      const auto holder =
          std::find_if(world_.workers.begin(), world_.workers.end(), [&](const auto& entry) {
            return entry.second->instance() == member.facts.instance;
          });
      // It may have died without a word, or left alone with nobody to tell.
      if (holder == world_.workers.end() || !holder->second->process().alive() ||
          holder->second->leaves_unheard() || holder->second->Has(pair)) {
        return;
      }
    }
    world_.invariants.Violate(
        "moves", absl::StrFormat("worker %d is told to drop layer %d expert %d, and nobody else "
                                 "has it",
                                 self->id.value(), pair.layer.value(), pair.expert.value()));
  });
}

void SimulatedCoordinator::Drain(WorkerId worker) {
  if (!process_.alive() || process_.frozen()) return;
  world_.trace.Add(world_.now(), "drain", {static_cast<uint64_t>(worker.value())});
  state_->Drain(worker, world_.now()).IgnoreError();
  Act();
}
void SimulatedCoordinator::Undrain(WorkerId worker) {
  if (!process_.alive() || process_.frozen()) return;
  world_.trace.Add(world_.now(), "undrain", {static_cast<uint64_t>(worker.value())});
  state_->Undrain(worker, world_.now()).IgnoreError();
  Act();
}
void SimulatedCoordinator::UndrainAll() {
  if (!process_.alive() || process_.frozen()) return;
  std::vector<WorkerId> drained;
  for (const auto& [id, member] : state_->roster()) {
    if (member.draining) drained.push_back(id);
  }
  for (const WorkerId id : drained) Undrain(id);
}
void SimulatedCoordinator::SetReplicas(double replicas) {
  if (!process_.alive() || process_.frozen()) return;
  world_.trace.Add(world_.now(), "replicas", {static_cast<uint64_t>(replicas * 100)});
  state_->SetReplicas(replicas, world_.now()).IgnoreError();
  Act();
}
void SimulatedCoordinator::Rebalance() {
  if (!process_.alive() || process_.frozen()) return;
  world_.trace.Add(world_.now(), "rebalance");
  state_->Rebalance(world_.now());
  Act();
}

std::string SimulatedCoordinator::StatusText() const {
  return state_ == nullptr ? "down" : state_->Status(world_.now()).ShortDebugString();
}

}  // namespace sheaf::simulation
