// A worker's session with the coordinator.

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "tests/simulation/simulated_coordinator.h"
#include "tests/simulation/worker/worker_life.h"

namespace sheaf::simulation {

void SimulatedWorker::Tick() {
  const uint64_t life_number = process_.life();
  for (WorkerAction& action : life_->state.Tick(world_.now())) {
    Do(std::move(action));
    if (!process_.alive() || process_.life() != life_number) return;
  }
  if (life_->state.member()) SendHoldingsNews();
  const TimePoint next = life_->state.next_tick();
  const uint64_t timer = ++life_->tick_timer;
  if (next == TimePoint::max()) return;
  process_.At(std::max(next, world_.now() + std::chrono::microseconds(1)), [this, timer] {
    if (timer == life_->tick_timer) Tick();
  });
}

void SimulatedWorker::Do(WorkerAction action) {
  Life& life = *life_;
  switch (action.kind) {
    case WorkerAction::Kind::kConnect:
      Connect();
      break;
    case WorkerAction::Kind::kDisconnect:
      if (life.session) life.session->Close();
      life.session = nullptr;
      break;
    case WorkerAction::Kind::kSendBeat: {
      v1::FromWorker message;
      v1::WorkerBeat& beat = *message.mutable_beat();
      beat.set_sequence(action.sequence);
      beat.set_resident_bytes(life.store.size() * kExpertBytes);
      beat.set_hold_left_bytes(life.plan.left_bytes());
      beat.set_hold_number(life.plan.hold_number());
      beat.set_loaded_bytes(life.loaded_bytes);
      beat.set_links(static_cast<int>(life.links.size()));
      if (life.session) SendProto(*life.session, message);
      break;
    }
    case WorkerAction::Kind::kSendLeaving: {
      v1::FromWorker message;
      message.mutable_leaving()->set_reason("asked to stop");
      if (life.session) SendProto(*life.session, message);
      break;
    }
    case WorkerAction::Kind::kHold:
      world_.trace.Add(world_.now(), "hold",
                       {static_cast<uint64_t>(process_.host()), action.hold.number,
                        action.hold.experts.size(), action.hold.num_urgent});
      life.plan.Want(std::move(action.hold));
      life.told_quiet = false;
      LoadSoon();
      break;
    case WorkerAction::Kind::kReload:
      life.plan.Reload(action.pair);
      life.told_quiet = false;
      LoadSoon();
      break;
    case WorkerAction::Kind::kExit:
      world_.trace.Add(world_.now(), "worker exits",
                       {static_cast<uint64_t>(process_.host()),
                        static_cast<uint64_t>(action.status.code())});
      if (!action.status.ok()) {
        world_.invariants.Violate("liveness", "a worker ended: " +
                                                  std::string(action.status.message()));
      }
      Kill();
      break;
  }
}

void SimulatedWorker::Connect() {
  Life& life = *life_;
  life.session =
      world_.network.Connect(process_, world_.coordinator->process(), kWorkerSessionPort);
  life.session->on_message = [this](const MessagePtr& message) {
    if (const auto* to = AsProto<v1::ToWorker>(message)) Understand(*to);
    if (const auto* end = dynamic_cast<const EndMessage*>(message.get())) {
      const absl::Status status = end->status;
      if (life_->session) life_->session->Close();
      life_->session = nullptr;
      life_->state.OnSessionEnded(status, world_.now());
    }
    Tick();
  };
  life.session->on_closed = [this](const std::string& why) {
    life_->session = nullptr;
    life_->state.OnSessionEnded(absl::UnavailableError(why), world_.now());
    Tick();
  };
  v1::FromWorker message;
  v1::WorkerHello& hello = *message.mutable_hello();
  hello.set_protocol_version(kPoolProtocolVersion);
  *hello.mutable_model() = world_.coordinator->ModelMessage();
  hello.set_instance(instance_.value());
  hello.set_secret(std::string(secret_.begin(), secret_.end()));
  hello.add_addresses(absl::StrFormat("sim:%d", process_.host()));
  hello.set_pid(process_.host());
  hello.set_host(absl::StrFormat("host%d", process_.host()));
  hello.set_threads(1);
  hello.set_memory_bytes(world_.mutant == Mutant::kIgnoreMemory ? 0 : options_.memory_bytes);
  hello.set_expert_bytes(kExpertBytes);
  hello.set_preferred_id(life.state.preferred_id());
  hello.set_holdings(life.plan.announced().Encode());
  life.told_holdings = life.plan.announced().number;
  hello.set_spare(options_.spare);
  SendProto(*life.session, message);
}

void SimulatedWorker::SendHoldingsNews() {
  Life& life = *life_;
  if (!life.state.member() || life.session == nullptr) return;
  if (life.told_holdings == life.plan.announced().number) return;
  life.told_holdings = life.plan.announced().number;
  v1::FromWorker message;
  message.mutable_holdings()->set_holdings(life.plan.announced().Encode());
  SendProto(*life.session, message);
}

void SimulatedWorker::Understand(const v1::ToWorker& message) {
  Life& life = *life_;
  const TimePoint now = world_.now();
  switch (message.message_case()) {
    case v1::ToWorker::kWelcome:
      return life.state.OnWelcome(WorkerId(message.welcome().worker_id()),
                                  std::chrono::milliseconds(message.welcome().lease_ms()), now);
    case v1::ToWorker::kHold: {
      HoldRequest hold;
      hold.number = message.hold().number();
      hold.max_bytes_per_second = message.hold().max_bytes_per_second();
      for (int i = 0; i < message.hold().experts_size(); ++i) {
        const v1::ExpertRange& range = message.hold().experts(i);
        for (int e = range.begin(); e < range.end(); ++e)
          hold.experts.push_back({LayerId(range.layer()), ExpertId(e)});
        if (i + 1 == message.hold().urgent_entries()) hold.num_urgent = hold.experts.size();
      }
      if (options_.memory_bytes > 0 &&
          hold.experts.size() * kExpertBytes > options_.memory_bytes) {
        world_.invariants.Violate(
            "memory", absl::StrFormat("worker on host %d is asked to hold %d experts in %d bytes",
                                      process_.host(), hold.experts.size(),
                                      options_.memory_bytes));
      }
      return life.state.OnHold(std::move(hold), now);
    }
    case v1::ToWorker::kBeatSeen:
      return life.state.OnBeatSeen(now);
    case v1::ToWorker::kReload:
      return life.state.OnReload(
          {LayerId(message.reload().layer()), ExpertId(message.reload().expert())}, now);
    case v1::ToWorker::kDismissed:
      return life.state.OnDismissed(message.dismissed().reason(), now);
    case v1::ToWorker::MESSAGE_NOT_SET:
      return;
  }
}

}  // namespace sheaf::simulation
