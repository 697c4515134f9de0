#include "exchange/layer/layer_machine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sheaf {
namespace {

constexpr size_t kMaxTroubles = 6;
constexpr size_t kMaxNames = 8;
constexpr std::chrono::milliseconds kOverslept{200};

int64_t Milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace

LayerMachine::LayerMachine(const ExpertTable& table, AnswerTimes& times,
                           const LayerMachineOptions& options)
    : table_(table), times_(times), options_(options), random_(options.seed | 1) {
  need_of_expert_.assign(size_t(table.num_experts()), -1);
  chosen_.assign(size_t(table.num_experts()), WorkerId(-1));
}

LayerMachine::AskState* LayerMachine::Find(AskId id) {
  if (id < first_id_ || id - first_id_ >= num_asks_) return nullptr;
  return asks_[size_t(id - first_id_)].get();
}

absl::Status LayerMachine::Begin(const Routes& routes, TimePoint now) {
  End(now);
  routes_ = routes;
  ++layer_number_;
  given_up_ = absl::OkStatus();
  begun_at_ = progress_at_ = now;
  troubles_.clear();

  const int num_slots = routes.num_tokens * routes.top_k;
  const auto num_experts = static_cast<int32_t>(need_of_expert_.size());
  for (int slot = 0; slot < num_slots; ++slot) {
    const int32_t expert = routes.expert_ids[slot];
    if (expert < 0 || expert >= num_experts) {
      End(now);
      return absl::InvalidArgumentError(
          absl::StrFormat("layer %d, token row %d: expert %d of %d", routes.layer.value(),
                          slot / routes.top_k, expert, num_experts));
    }
    int32_t& index = need_of_expert_[size_t(expert)];
    if (index < 0) {
      index = static_cast<int32_t>(num_needs_++);
      if (needs_.size() < num_needs_) needs_.emplace_back();
      Need& need = needs_[size_t(index)];
      need.expert = expert;
      need.pairs = 0;
      need.done = need.waiting = false;
      need.covered = need.under_way = 0;
      need.cause = AskCause::kFirst;
      need.tried.clear();
    }
    ++needs_[size_t(index)].pairs;
  }
  remaining_ = static_cast<int>(num_needs_);
  PlanFirst(now);
  Settle(now);
  return absl::OkStatus();
}

bool LayerMachine::NextAsk(Ask& ask) {
  while (next_ask_ < num_asks_) {
    const AskState& state = *asks_[next_ask_++];
    if (state.progress != AskState::Progress::kPlanned) continue;
    ask = {state.id, state.worker, state.cause, &state.plan};
    return true;
  }
  return false;
}

void LayerMachine::Sent(AskId id, TimePoint now) {
  AskState* ask = Find(id);
  if (ask == nullptr || ask->progress != AskState::Progress::kPlanned) return;
  WorkerState& state = StateOf(ask->worker);
  ask->progress = AskState::Progress::kSent;
  ask->sent_at = now;
  ask->ahead = state.owed_work + state.open_work;
  ask->late_at = now + times_.LateAfter(ask->worker, ask->work + ask->ahead);
  if (ask->awaited && remaining_ == 0) ask->late_at = std::min(ask->late_at, VerifyUntil(now));
  state.open_work += ask->work;
  // A repetition says why; what it asks for may have several reasons.
  const bool extra = ask->cause == AskCause::kVerify || ask->cause == AskCause::kProbe;
  for (const ExpertRun& run : ask->plan.experts) {
    const AskCause cause = extra ? ask->cause : NeedOf(run.expert).cause;
    statistics_.pairs[static_cast<size_t>(cause)] += run.num_rows;
  }
}

void LayerMachine::NotSent(AskId id, TimePoint now) {
  AskState* ask = Find(id);
  if (ask == nullptr || ask->progress != AskState::Progress::kPlanned) return;
  Close(*ask, false);
  StateOf(ask->worker).full_until = now + options_.full_pause;
  for (const ExpertRun& run : ask->plan.experts) {
    Need& need = NeedOf(run.expert);
    std::erase_if(need.tried, [&](const Tried& tried) { return tried.worker == ask->worker; });
    if (!need.done && need.covered == 0) need.cause = AskCause::kFull;
  }
  dirty_ = true;
  Settle(now);
}

void LayerMachine::Uncover(AskState& ask) {
  if (ask.awaited) {
    ask.awaited = false;
    --verifying_;
  }
  if (!ask.covers) return;
  ask.covers = false;
  for (const ExpertRun& run : ask.plan.experts) --NeedOf(run.expert).covered;
}

void LayerMachine::Close(AskState& ask, bool used) {
  if (ask.progress == AskState::Progress::kClosed) return;
  Uncover(ask);
  for (const ExpertRun& run : ask.plan.experts) --NeedOf(run.expert).under_way;
  if (ask.progress == AskState::Progress::kSent) {
    StateOf(ask.worker).open_work -= ask.work;
    if (ask.cause == AskCause::kLate) ++(used ? statistics_.hedges_won : statistics_.hedges_lost);
  }
  ask.progress = AskState::Progress::kClosed;
}

bool LayerMachine::TakeOwed(WorkerId worker, AskId id, TimePoint now, bool observe) {
  if (worker.value() < 0 || size_t(worker.value()) >= workers_.size()) return false;
  WorkerState& state = workers_[size_t(worker.value())];
  const auto at = std::find_if(state.owed.begin(), state.owed.end(),
                               [&](const Owed& owed) { return owed.id == id; });
  if (at == state.owed.end()) return false;
  if (observe) times_.Observe(worker, at->measured, now - at->sent_at);
  state.owed_work -= at->work;
  state.owed.erase(at);
  if (state.owed.empty()) state.owed_work = 0;
  return true;
}

Arrival LayerMachine::Combine(WorkerId worker, AskId id, TimePoint now, bool taken_late) {
  AskState* ask = Find(id);
  if (ask == nullptr || ask->worker != worker || ask->progress != AskState::Progress::kSent) {
    TakeOwed(worker, id, now, !taken_late);
    ++statistics_.late_answers;
    return {};
  }
  Arrival arrival{&ask->plan, ask->cause, {}, now - ask->sent_at};
  if (!taken_late) Observe(*ask, arrival.took, now);
  fresh_.assign(ask->plan.experts.size(), 0);
  bool used = false;
  for (size_t i = 0; i < ask->plan.experts.size(); ++i) {
    Need& need = NeedOf(ask->plan.experts[i].expert);
    if (need.done) continue;
    need.done = true;
    need.waiting = false;
    --remaining_;
    fresh_[i] = 1;
    used = true;
  }
  Close(*ask, used);
  if (used) progress_at_ = std::max(progress_at_, now);
  if (used && remaining_ == 0 && verifying_ > 0) {
    for (size_t i = 0; i < num_asks_; ++i) {
      AskState& other = *asks_[i];
      if (other.awaited) other.late_at = std::min(other.late_at, VerifyUntil(now));
    }
  }
  arrival.fresh = fresh_;
  return arrival;
}

void LayerMachine::NotHeld(WorkerId worker, AskId id, std::span<const int32_t> experts,
                           TimePoint now) {
  AskState* ask = Find(id);
  if (ask == nullptr || ask->worker != worker || ask->progress != AskState::Progress::kSent) {
    TakeOwed(worker, id, now, false);
    return;
  }
  Close(*ask, false);
  bool named = false;
  for (const ExpertRun& run : ask->plan.experts) {
    Need& need = NeedOf(run.expert);
    const bool missing = std::find(experts.begin(), experts.end(), run.expert) != experts.end();
    named = named || missing;
    std::erase_if(need.tried, [&](const Tried& tried) { return tried.worker == worker; });
    if (missing) need.tried.push_back({worker, Outcome::kNotHeld});
    if (!need.done && need.covered == 0) need.cause = AskCause::kNotHeld;
  }
  if (!named) {  // nonsense; asking again would go round and round
    for (const ExpertRun& run : ask->plan.experts)
      NeedOf(run.expert).tried.push_back({worker, Outcome::kNotHeld});
  }
  Trouble(absl::StrFormat("worker %d does not hold them any more", worker.value()));
  dirty_ = true;
  Settle(now);
}

void LayerMachine::Error(WorkerId worker, AskId id, const std::string& text, TimePoint now) {
  AskState* ask = Find(id);
  if (ask == nullptr || ask->worker != worker || ask->progress != AskState::Progress::kSent) {
    TakeOwed(worker, id, now, false);
    return;
  }
  Close(*ask, false);
  for (const ExpertRun& run : ask->plan.experts) {
    Need& need = NeedOf(run.expert);
    for (Tried& tried : need.tried) {
      if (tried.worker == worker) tried.outcome = Outcome::kError;
    }
    if (!need.done && need.covered == 0) need.cause = AskCause::kError;
  }
  Trouble(absl::StrFormat("worker %d: %s", worker.value(), text));
  dirty_ = true;
  Settle(now);
}

void LayerMachine::LinkLost(WorkerId worker, const std::string& why, TimePoint now) {
  for (size_t i = 0; i < num_asks_; ++i) {
    AskState& ask = *asks_[i];
    if (ask.worker != worker || ask.progress == AskState::Progress::kClosed) continue;
    Close(ask, false);
    for (const ExpertRun& run : ask.plan.experts) {
      Need& need = NeedOf(run.expert);
      if (!need.done && need.covered == 0) need.cause = AskCause::kLinkLost;
    }
  }
  for (size_t i = 0; i < num_needs_; ++i) {
    for (Tried& tried : needs_[i].tried) {
      if (tried.worker == worker) tried.outcome = Outcome::kLost;
    }
  }
  WorkerState& state = StateOf(worker);
  state.owed.clear();
  state.owed_work = 0;
  state.load = 0;
  state.full_until = state.late_at = state.avoid_until = {};
  state.avoid = Duration::zero();
  Trouble(absl::StrFormat("worker %d: %s", worker.value(), why));
  dirty_ = true;
  Settle(now);
}

void LayerMachine::TableChanged(WorkerId worker, TimePoint now) {
  for (size_t i = 0; i < num_needs_; ++i) {
    std::erase_if(needs_[i].tried, [&](const Tried& tried) {
      return tried.worker == worker &&
             (tried.outcome == Outcome::kNotHeld || tried.outcome == Outcome::kLost);
    });
  }
  dirty_ = true;
  Settle(now);
}

void LayerMachine::Tick(TimePoint now) {
  const Duration overslept = now - WakeAt();
  if (overslept > kOverslept) Forgive(overslept);
  for (size_t i = 0; i < num_asks_; ++i) {
    AskState& ask = *asks_[i];
    if (ask.progress != AskState::Progress::kSent || ask.late || ask.late_at > now) continue;
    ask.late = true;
    Uncover(ask);
    times_.ObserveSilence(ask.worker, ask.work + ask.ahead, now - ask.sent_at);
    WasLate(StateOf(ask.worker), now);
    for (const ExpertRun& run : ask.plan.experts) {
      Need& need = NeedOf(run.expert);
      if (!need.done && need.covered == 0) need.cause = AskCause::kLate;
    }
    dirty_ = true;
  }
  if (waits_for_room_) dirty_ = true;
  Settle(now);
}

void LayerMachine::Forgive(Duration by) {
  progress_at_ += by;
  for (size_t i = 0; i < num_asks_; ++i) asks_[i]->late_at += by;
  for (size_t i = 0; i < num_needs_; ++i) needs_[i].waiting_since += by;
}

void LayerMachine::Settle(TimePoint now) {
  if (!given_up_.ok() || remaining_ == 0) return;
  if (dirty_) {
    dirty_ = waits_for_room_ = false;
    for (size_t i = 0; i < num_needs_; ++i) {
      Need& need = needs_[i];
      if (need.done || need.covered > 0) continue;
      const bool room_before = std::exchange(waits_for_room_, false);
      // Who owes too much is no help for what is asked for already.
      const WorkerId worker = Choose(need, now, need.under_way == 0);
      const bool room_needed = std::exchange(waits_for_room_, waits_for_room_ || room_before);
      if (worker.value() >= 0) {
        Choice(need, worker);
        continue;
      }
      if (need.under_way > 0 || room_needed) {
        need.waiting = false;
        continue;
      }
      const auto holders = table_.HoldersOf(routes_.layer, ExpertId(need.expert));
      const bool all_failed =
          !holders.empty() && std::all_of(holders.begin(), holders.end(), [&](WorkerId holder) {
            return std::any_of(need.tried.begin(), need.tried.end(), [&](const Tried& tried) {
              return tried.worker == holder && tried.outcome == Outcome::kError;
            });
          });
      if (all_failed) {
        for (const int32_t expert : chosen_experts_) chosen_[size_t(expert)] = WorkerId(-1);
        chosen_experts_.clear();
        GiveUp(absl::InternalError(absl::StrFormat(
            "layer %d, expert %d: every worker that holds it failed: %s", routes_.layer.value(),
            need.expert, absl::StrJoin(troubles_, "; "))));
        return;
      }
      if (!need.waiting) {
        need.waiting = true;
        need.waiting_since = now;
      }
    }
    PlanChosen(now);
  }
  for (size_t i = 0; i < num_needs_; ++i) {
    const Need& need = needs_[i];
    if (!need.waiting || now - need.waiting_since < options_.orphan_patience) continue;
    GiveUp(absl::UnavailableError(absl::StrFormat(
        "layer %d is given up: no worker holds %s%s%s", routes_.layer.value(), Names(true),
        troubles_.empty() ? "" : " now: ", absl::StrJoin(troubles_, "; "))));
    return;
  }
  if (now - progress_at_ >= Bound()) {
    GiveUp(absl::UnavailableError(absl::StrFormat(
        "layer %d is given up: no answer for %d ms to %s%s%s", routes_.layer.value(),
        Milliseconds(now - progress_at_), Names(false), troubles_.empty() ? "" : "; ",
        absl::StrJoin(troubles_, "; "))));
  }
}

void LayerMachine::Observe(const AskState& ask, Duration took, TimePoint now) {
  const bool first = !times_.Known(ask.worker);
  times_.Observe(ask.worker, ask.work + ask.ahead, took);
  if (!first) return;
  // What is late of those that nobody knew anything about can be told better now.
  for (size_t i = 0; i < num_asks_; ++i) {
    AskState& other = *asks_[i];
    if (other.progress != AskState::Progress::kSent || other.late) continue;
    if (times_.Known(other.worker)) continue;
    const Duration late = times_.LateAfter(other.worker, other.work + other.ahead);
    other.late_at = std::min(other.late_at, std::max(now, other.sent_at + late));
  }
}

TimePoint LayerMachine::VerifyUntil(TimePoint now) const {
  return now + std::max(options_.verify_patience, (now - begun_at_) / 2);
}

Duration LayerMachine::Bound() const {
  return options_.give_up_after + options_.give_up_per_token * routes_.num_tokens;
}

TimePoint LayerMachine::WakeAt() const {
  TimePoint wake = progress_at_ + Bound();
  for (size_t i = 0; i < num_asks_; ++i) {
    const AskState& ask = *asks_[i];
    if (ask.progress == AskState::Progress::kSent && !ask.late) wake = std::min(wake, ask.late_at);
  }
  for (size_t i = 0; i < num_needs_; ++i) {
    if (needs_[i].waiting && !needs_[i].done)
      wake = std::min(wake, needs_[i].waiting_since + options_.orphan_patience);
  }
  if (waits_for_room_) {
    for (const WorkerState& state : workers_) {
      if (state.layer == layer_number_ && state.full_until > progress_at_)
        wake = std::min(wake, state.full_until);
    }
  }
  return wake;
}

bool LayerMachine::AskAnother(ExpertId expert, TimePoint now) {
  if (expert.value() < 0 || size_t(expert.value()) >= need_of_expert_.size() ||
      need_of_expert_[size_t(expert.value())] < 0) {
    return false;
  }
  Need& need = NeedOf(expert.value());
  const WorkerId worker = Choose(need, now, false);
  if (worker.value() < 0) return false;
  Choice(need, worker);
  PlanExtra(AskCause::kVerify, now);
  return true;
}

void LayerMachine::End(TimePoint) {
  for (size_t i = 0; i < num_asks_; ++i) {
    AskState& ask = *asks_[i];
    const bool under_way = ask.progress == AskState::Progress::kSent;
    Close(ask, false);
    if (!under_way) continue;
    WorkerState& state = StateOf(ask.worker);
    state.owed.push_back({ask.id, ask.work, ask.work + ask.ahead, ask.sent_at});
    state.owed_work += ask.work;
  }
  for (size_t i = 0; i < num_needs_; ++i) need_of_expert_[size_t(needs_[i].expert)] = -1;
  first_id_ += num_asks_;
  num_asks_ = next_ask_ = num_needs_ = 0;
  remaining_ = verifying_ = 0;
  dirty_ = waits_for_room_ = false;
}

void LayerMachine::GiveUp(absl::Status status) {
  given_up_ = std::move(status);
  ++statistics_.given_up;
}

void LayerMachine::Trouble(std::string text) {
  if (std::find(troubles_.begin(), troubles_.end(), text) != troubles_.end()) return;
  if (troubles_.size() < kMaxTroubles) troubles_.push_back(std::move(text));
}

std::string LayerMachine::Names(bool waiting_only) const {
  std::string names;
  size_t count = 0;
  for (size_t i = 0; i < num_needs_; ++i) {
    const Need& need = needs_[i];
    if (need.done || (waiting_only && !need.waiting)) continue;
    if (++count > kMaxNames) continue;
    absl::StrAppend(&names, names.empty() ? "expert " : ", ", need.expert);
    if (need.tried.empty()) continue;
    absl::StrAppend(&names, " (asked: worker");
    for (const Tried& tried : need.tried) absl::StrAppend(&names, " ", tried.worker.value());
    absl::StrAppend(&names, ")");
  }
  if (count > kMaxNames) absl::StrAppend(&names, " and ", count - kMaxNames, " more");
  return names;
}

std::vector<ExpertId> LayerMachine::Orphans() const {
  std::vector<ExpertId> orphans;
  for (size_t i = 0; i < num_needs_; ++i) {
    if (needs_[i].waiting && !needs_[i].done) orphans.emplace_back(needs_[i].expert);
  }
  std::sort(orphans.begin(), orphans.end());
  return orphans;
}

int LayerMachine::owed_asks(WorkerId worker) const {
  if (worker.value() < 0 || size_t(worker.value()) >= workers_.size()) return 0;
  return static_cast<int>(workers_[size_t(worker.value())].owed.size());
}

LayerStatistics LayerMachine::TakeStatistics() { return std::exchange(statistics_, {}); }

}  // namespace sheaf
