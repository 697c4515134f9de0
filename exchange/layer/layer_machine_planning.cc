// Whom LayerMachine asks for what: choosing holders and making asks of the choices.

#include <algorithm>
#include <array>

#include "exchange/layer/layer_machine.h"

namespace sheaf {
namespace {

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

LayerMachine::WorkerState& LayerMachine::StateOf(WorkerId worker) {
  const auto index = static_cast<size_t>(std::max(0, worker.value()));
  if (index >= workers_.size()) workers_.resize(index + 1);
  WorkerState& state = workers_[index];
  if (state.layer != layer_number_) {
    state.layer = layer_number_;
    state.asked = false;
    state.seconds_per_unit = times_.SecondsPerUnit(worker);
    state.load = state.seconds_per_unit * state.owed_work;
    // Who has been silent for that long will hardly answer sooner than after that long again.
    if (!state.owed.empty()) state.load += Seconds(progress_at_ - state.owed.front().sent_at);
  }
  return state;
}

// Once may be chance: on a busy machine every worker stops for a scheduler's slice now and then.
void LayerMachine::WasLate(WorkerState& state, TimePoint now) const {
  constexpr std::chrono::seconds kSoon{1};
  const bool again = state.late_at != TimePoint() && now - state.late_at < kSoon + state.avoid;
  state.late_at = now;
  if (!again) {
    state.avoid = Duration::zero();
    return;
  }
  if (now < state.avoid_until) return;  // an ask of before
  state.avoid =
      std::min(options_.avoid_most, std::max<Duration>(options_.avoid_first, 2 * state.avoid));
  state.avoid_until = now + state.avoid;
}

WorkerId LayerMachine::Choose(const Need& need, TimePoint now, bool allow_overdue) {
  const std::span<const WorkerId> holders = table_.HoldersOf(routes_.layer, ExpertId(need.expert));
  if (holders.size() == 1 && need.tried.empty()) {  // most often, without replicas: no choice
    const WorkerState& state = StateOf(holders.front());
    if (state.full_until > now) {
      waits_for_room_ = true;
      return WorkerId(-1);
    }
    const bool overdue = state.owed.size() > size_t(options_.max_owed_asks);
    return overdue && !allow_overdue ? WorkerId(-1) : holders.front();
  }
  const double work = WorkOf(1, need.pairs);
  // In order: who answers, who is avoided, who owes too much.
  std::array<WorkerId, 3> best{WorkerId(-1), WorkerId(-1), WorkerId(-1)};
  std::array<double, 3> best_end{};
  for (const WorkerId worker : holders) {
    if (std::any_of(need.tried.begin(), need.tried.end(),
                    [&](const Tried& tried) { return tried.worker == worker; })) {
      continue;
    }
    const WorkerState& state = StateOf(worker);
    if (state.full_until > now) {
      waits_for_room_ = true;
      continue;
    }
    const double end = state.load + state.seconds_per_unit * work;
    const bool overdue = state.owed.size() > size_t(options_.max_owed_asks);
    const size_t rank = overdue ? 2 : state.avoid_until > now ? 1 : 0;
    if (best[rank].value() < 0 || end < best_end[rank]) {
      best[rank] = worker;
      best_end[rank] = end;
    }
  }
  for (const size_t rank : {0, 1}) {
    if (best[rank].value() >= 0) return best[rank];
  }
  return allow_overdue ? best[2] : WorkerId(-1);
}

WorkerId LayerMachine::ChooseToCompare(const Need& need, TimePoint now) {
  WorkerId chosen(-1);
  uint64_t eligible = 0;
  for (const WorkerId worker : table_.HoldersOf(routes_.layer, ExpertId(need.expert))) {
    if (std::any_of(need.tried.begin(), need.tried.end(),
                    [&](const Tried& tried) { return tried.worker == worker; })) {
      continue;
    }
    const WorkerState& state = StateOf(worker);
    if (state.full_until > now || state.avoid_until > now ||
        state.owed.size() > size_t(options_.max_owed_asks)) {
      continue;
    }
    if (Random() % ++eligible == 0) chosen = worker;
  }
  return chosen;
}

// xorshift
uint64_t LayerMachine::Random() {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  return random_;
}

void LayerMachine::Choice(Need& need, WorkerId worker) {
  WorkerState& state = StateOf(worker);
  state.load += state.seconds_per_unit * WorkOf(1, need.pairs);
  state.asked = true;
  need.tried.push_back({worker, Outcome::kAsked});
  need.waiting = false;
  chosen_[size_t(need.expert)] = worker;
  chosen_experts_.push_back(need.expert);
}

void LayerMachine::PlanFirst(TimePoint now) {
  order_.resize(num_needs_);
  bool several_holders = false;
  for (size_t i = 0; i < num_needs_; ++i) {
    order_[i] = static_cast<int32_t>(i);
    several_holders = several_holders ||
                      table_.HoldersOf(routes_.layer, ExpertId(needs_[i].expert)).size() > 1;
  }
  if (several_holders) {
    std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
      const Need& x = needs_[size_t(a)];
      const Need& y = needs_[size_t(b)];
      return x.pairs != y.pairs ? x.pairs > y.pairs : x.expert < y.expert;
    });
  }
  for (const int32_t index : order_) {
    Need& need = needs_[size_t(index)];
    const WorkerId worker = Choose(need, now, true);
    if (worker.value() < 0) {
      dirty_ = true;
      need.cause = AskCause::kNoHolder;
      continue;
    }
    Choice(need, worker);
  }
  PlanChosen(now);
  if (!several_holders) return;  // nobody to compare with or to probe

  if (options_.verify_share > 0) {
    for (size_t i = 0; i < num_needs_; ++i) {
      if (double(Random() >> 11) * 0x1p-53 >= options_.verify_share) continue;
      const WorkerId worker = ChooseToCompare(needs_[i], now);
      if (worker.value() >= 0 && needs_[i].covered > 0) Choice(needs_[i], worker);
    }
    PlanExtra(AskCause::kVerify, now);
  }

  Need* probed = nullptr;
  WorkerId idle(-1);
  for (size_t i = 0; i < num_needs_; ++i) {
    Need& need = needs_[i];
    if (probed != nullptr && need.pairs >= probed->pairs) continue;
    const auto holders = table_.HoldersOf(routes_.layer, ExpertId(need.expert));
    if (holders.size() < 2) continue;
    for (const WorkerId worker : holders) {
      const WorkerState& state = StateOf(worker);
      if (state.asked || !state.owed.empty() || state.full_until > now) continue;
      if (now - state.last_asked < options_.probe_every) continue;
      probed = &need;
      idle = worker;
      break;
    }
  }
  if (probed != nullptr) {
    Choice(*probed, idle);
    PlanExtra(AskCause::kProbe, now);
  }
}

void LayerMachine::PlanExtra(AskCause cause, TimePoint now) {
  const size_t before = num_asks_;
  PlanChosen(now);
  for (size_t i = before; i < num_asks_; ++i) {
    AskState& ask = *asks_[i];
    Uncover(ask);
    ask.cause = cause;
    if (cause == AskCause::kVerify) {
      ask.awaited = true;
      ++verifying_;
    }
  }
}

void LayerMachine::PlanChosen(TimePoint now) {
  if (chosen_experts_.empty()) return;
  // The routes were checked in Begin.
  PlanDispatch(routes_, chosen_, {}, plan_).IgnoreError();
  for (const int32_t expert : chosen_experts_) chosen_[size_t(expert)] = WorkerId(-1);
  chosen_experts_.clear();
  for (size_t i = 0; i < plan_.num_workers_; ++i) {
    if (asks_.size() == num_asks_) asks_.push_back(std::make_unique<AskState>());
    AskState& ask = *asks_[num_asks_];
    ask.id = first_id_ + num_asks_++;
    std::swap(ask.plan, plan_.workers_[i]);
    ask.worker = ask.plan.worker;
    ask.cause = NeedOf(ask.plan.experts.front().expert).cause;
    ask.progress = AskState::Progress::kPlanned;
    ask.late = ask.awaited = false;
    ask.covers = true;
    ask.work = WorkOf(static_cast<int>(ask.plan.experts.size()), ask.plan.num_pairs());
    for (const ExpertRun& run : ask.plan.experts) {
      Need& need = NeedOf(run.expert);
      ++need.covered;
      ++need.under_way;
    }
    StateOf(ask.worker).last_asked = now;
  }
}

}  // namespace sheaf
