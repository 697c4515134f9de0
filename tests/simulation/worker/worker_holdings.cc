// What a worker holds: loading, announcing, dropping over a simulated disk.

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "tests/simulation/router/simulated_router.h"
#include "tests/simulation/worker/worker_life.h"

namespace sheaf::simulation {

// Threads of the real worker tell each other through queues.
void SimulatedWorker::LoadSoon() {
  process_.After(Duration(0), [this] { Load(); });
}
void SimulatedWorker::TickSoon() {
  process_.After(Duration(0), [this] { Tick(); });
}

void SimulatedWorker::Load() {
  FreeWhatNobodyReads();
  Life& life = *life_;
  for (;;) {
    if (life.loading >= options_.lanes) return;
    HoldingAction action = life.plan.Next(world_.now());
    switch (action.kind) {
      case HoldingAction::Kind::kLoad: {
        const LayerExpert pair = action.experts.front();
        ++life.loading;
        CheckMemory();
        life.disk.state = options_.disk;
        life.disk.Read(kExpertBytes,
                       [this, pair](const absl::Status& status) { Loaded(pair, status); });
        break;
      }
      case HoldingAction::Kind::kAnnounce:
        life.number = action.holdings.number;
        life.encoded = action.holdings.Encode();
        for (const auto& [pair, copy] : life.store) {
          if (action.holdings.Has(pair.layer, pair.expert)) {
            life.hidden_at.erase(pair);
          } else {
            life.hidden_at.try_emplace(pair, world_.now());
          }
        }
        world_.trace.Add(world_.now(), "announces",
                         {static_cast<uint64_t>(process_.host()), life.number,
                          static_cast<uint64_t>(action.holdings.count())});
        for (const auto& link : life.links) TellHoldings(*link);
        if (world_.mutant == Mutant::kDropBeforeSeen) {
          life.plan.Seen(life.number);
        } else {
          TellSeen();
        }
        SendHoldingsNews();
        break;
      case HoldingAction::Kind::kDrop:
        for (const LayerExpert& pair : action.experts) Drop(pair);
        FreeWhatNobodyReads();
        FactsChanged();
        break;
      case HoldingAction::Kind::kRefuse:
        HoldFailed(action.number, action.experts.front(),
                   absl::ResourceExhaustedError("memory is full"));
        break;
      case HoldingAction::Kind::kWait: {
        if (life.plan.quiet() && !life.told_quiet) FactsChanged();
        if (action.until == TimePoint::max()) return;
        const uint64_t timer = ++life.load_timer;
        process_.At(std::max(action.until, world_.now() + std::chrono::microseconds(1)),
                    [this, timer] {
                      if (timer == life_->load_timer) Load();
                    });
        return;
      }
    }
  }
}

void SimulatedWorker::Loaded(const LayerExpert& pair, const absl::Status& status) {
  Life& life = *life_;
  --life.loading;
  absl::Status why = status;
  const uint64_t number = life.plan.hold_number();
  if (status.ok()) {
    life.loaded_bytes += kExpertBytes;
    switch (life.plan.Loaded(pair, kExpertBytes)) {
      case HoldingPlan::Verdict::kKeep: {
        auto& held = life.store[pair];
        LetGo(std::exchange(held, std::make_shared<Copy>(Copy{
                                      world_.Weights(pair.layer, pair.expert), false})));
        break;
      }
      case HoldingPlan::Verdict::kNotWanted:
        break;
      case HoldingPlan::Verdict::kNoRoom:
        why = absl::ResourceExhaustedError("no room");
        break;
    }
  } else {
    life.plan.LoadFailed(pair);
  }
  CheckMemory();
  if (!why.ok()) HoldFailed(number, pair, why);
  FactsChanged();
  Load();
}

void SimulatedWorker::Drop(const LayerExpert& pair) {
  const auto held = life_->store.find(pair);
  if (held == life_->store.end()) {
    world_.invariants.Violate("holdings", "it drops what it does not hold");
    return;
  }
  const auto hidden = life_->hidden_at.find(pair);
  const bool bound_over = hidden != life_->hidden_at.end() &&
                          world_.now() - hidden->second >= HoldingPlanOptions().seen_patience;
  for (const auto& [host, router] : world_.routers) {
    for (const auto& link : life_->links) {
      if (link->router != router->instance() || !router->process().alive()) continue;
      if (bound_over || !router->Believes(link->id, pair)) continue;
      world_.invariants.Violate(
          "holdings", absl::StrFormat("worker on host %d drops layer %d expert %d, and the router "
                                      "on host %d may still ask for it",
                                      process_.host(), pair.layer.value(), pair.expert.value(),
                                      host));
    }
  }
  world_.trace.Add(world_.now(), "drops",
                   {static_cast<uint64_t>(process_.host()),
                    static_cast<uint64_t>(pair.layer.value()),
                    static_cast<uint64_t>(pair.expert.value())});
  LetGo(std::move(held->second));
  life_->store.erase(held);
  life_->hidden_at.erase(pair);
}

void SimulatedWorker::LetGo(std::shared_ptr<Copy> copy) {
  if (copy != nullptr) life_->going.push_back(std::move(copy));
}

void SimulatedWorker::FreeWhatNobodyReads() {
  const size_t before = life_->going.size();
  std::erase_if(life_->going, [this](const std::shared_ptr<Copy>& copy) {
    if (copy.use_count() > 1) return false;
    life_->plan.Freed(kExpertBytes);
    return true;
  });
  // What waited for room may go on; not from within Load.
  if (before != life_->going.size()) LoadSoon();
}

void SimulatedWorker::CheckMemory() {
  if (options_.memory_bytes == 0) return;
  const uint64_t used =
      (life_->store.size() + life_->going.size() + static_cast<size_t>(life_->loading)) *
      kExpertBytes;
  if (used > options_.memory_bytes) {
    world_.invariants.Violate("memory",
                              absl::StrFormat("worker on host %d uses %d of %d bytes",
                                              process_.host(), used, options_.memory_bytes));
  }
}

void SimulatedWorker::FactsChanged() {
  const bool quiet = life_->plan.quiet();
  life_->told_quiet = quiet;
  if (quiet) {
    life_->state.OnHoldingsSettled(life_->store.empty());
  } else {
    life_->state.OnHoldingsUnsettled();
  }
  TickSoon();
}

void SimulatedWorker::HoldFailed(uint64_t number, const LayerExpert& pair,
                                 const absl::Status& why) {
  world_.trace.Add(world_.now(), "hold failed",
                   {static_cast<uint64_t>(process_.host()),
                    static_cast<uint64_t>(pair.layer.value()),
                    static_cast<uint64_t>(pair.expert.value())});
  if (!life_->state.member() || life_->session == nullptr) return;
  v1::FromWorker message;
  v1::HoldFailed& failed = *message.mutable_hold_failed();
  failed.set_number(number);
  failed.set_layer(pair.layer.value());
  failed.set_expert(pair.expert.value());
  failed.set_reason(std::string(why.message()));
  SendProto(*life_->session, message);
}

}  // namespace sheaf::simulation
