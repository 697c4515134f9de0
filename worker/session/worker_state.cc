#include "worker/session/worker_state.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/one_line.h"

namespace sheaf {
namespace {

constexpr int kSilentLeases = 5;
constexpr int kBeatsALease = 3;
// A tick that is later than this did not just wait for a core.
constexpr Duration kStandstill = std::chrono::milliseconds(200);

// Empty: trying again can help.
std::string WhatToDo(const absl::Status& status, const std::string& coordinator) {
  switch (status.code()) {
    case absl::StatusCode::kFailedPrecondition:
      return "start this worker with the pool's checkpoint and version";
    case absl::StatusCode::kUnauthenticated:
      return "give this worker the pool's token";
    case absl::StatusCode::kInvalidArgument:
      return absl::StrFormat("is %s a coordinator of this version?", coordinator);
    default:
      return "";
  }
}

}  // namespace

WorkerState::WorkerState(const WorkerStateOptions& options, uint64_t seed, TimePoint now)
    : options_(options),
      random_(static_cast<std::minstd_rand::result_type>(seed)),
      preferred_id_(options.preferred_id),
      back_off_(options.first_back_off),
      connect_at_(now),
      alone_since_(now),
      next_tick_(now),
      last_tick_(now) {}

void WorkerState::Push(WorkerAction::Kind kind) {
  WorkerAction action;
  action.kind = kind;
  actions_.push_back(std::move(action));
}

void WorkerState::Exit(absl::Status status) {
  Disconnect();
  WorkerAction action;
  action.kind = WorkerAction::Kind::kExit;
  action.status = std::move(status);
  actions_.push_back(std::move(action));
  phase_ = Phase::kDone;
}

void WorkerState::Disconnect() {
  if (phase_ == Phase::kJoining || phase_ == Phase::kMember) Push(WorkerAction::Kind::kDisconnect);
}

void WorkerState::OnWelcome(WorkerId id, Duration lease, TimePoint now) {
  if (phase_ != Phase::kJoining) return OnNonsense(absl::InternalError("a second welcome"), now);
  phase_ = Phase::kMember;
  id_ = id;
  preferred_id_ = id.value();
  lease_ = lease;
  last_heard_ = now;
  next_beat_ = now + lease / kBeatsALease;
  beat_ = hold_number_ = 0;
  back_off_ = options_.first_back_off;
  spdlog::info("worker {} of the pool at {}", id.value(), options_.coordinator);
}

void WorkerState::OnHold(HoldRequest hold, TimePoint now) {
  if (phase_ != Phase::kMember) return;
  last_heard_ = std::max(last_heard_, now);
  if (hold.number <= hold_number_) {
    return OnNonsense(absl::InternalError(absl::StrFormat("hold %d after hold %d", hold.number,
                                                          hold_number_)),
                      now);
  }
  hold_number_ = hold.number;
  if (letting_go_) return;
  if (stopping_ && told_leaving_ && hold.experts.empty()) letting_go_ = true;
  WorkerAction action;
  action.kind = WorkerAction::Kind::kHold;
  action.hold = std::move(hold);
  actions_.push_back(std::move(action));
  OnHoldingsUnsettled();
}

void WorkerState::OnReload(const LayerExpert& pair, TimePoint now) {
  if (phase_ != Phase::kMember) return;
  last_heard_ = std::max(last_heard_, now);
  if (letting_go_) return;
  WorkerAction action;
  action.kind = WorkerAction::Kind::kReload;
  action.pair = pair;
  actions_.push_back(std::move(action));
}

void WorkerState::OnBeatSeen(TimePoint now) {
  if (phase_ == Phase::kMember) last_heard_ = std::max(last_heard_, now);
}

void WorkerState::OnDismissed(const std::string& reason, TimePoint now) {
  if (phase_ != Phase::kMember && phase_ != Phase::kJoining) return;
  Part(absl::StrFormat("dismissed: %s", reason), now);
}

void WorkerState::OnNonsense(const absl::Status& why, TimePoint now) {
  if (phase_ != Phase::kMember && phase_ != Phase::kJoining) return;
  Part(absl::StrFormat("it says what cannot be: %s", std::string(why.message())), now);
}

void WorkerState::OnSessionEnded(const absl::Status& status, TimePoint now) {
  if (phase_ != Phase::kMember && phase_ != Phase::kJoining) return;
  const std::string advice = WhatToDo(status, options_.coordinator);
  const std::string message = OneLine(std::string(status.message()));
  phase_ = Phase::kApart;  // there is nothing to disconnect
  if (!advice.empty() && !stopping_) {
    return Exit(absl::Status(status.code(), absl::StrFormat("the coordinator at %s refuses: %s: %s",
                                                            options_.coordinator, message,
                                                            advice)));
  }
  Part(status.ok() ? "it ended the session" : message, now);
}

void WorkerState::Part(const std::string& why, TimePoint now) {
  const bool was_member = lease_ > Duration::zero();
  Disconnect();
  phase_ = Phase::kApart;
  lease_ = Duration::zero();
  // Half to all of it: workers that lost the same coordinator do not come back in one moment.
  const int64_t ticks = std::max<int64_t>(2, back_off_.count());
  connect_at_ = now + Duration(ticks / 2 + static_cast<int64_t>(random_()) % (ticks / 2 + 1));
  back_off_ = std::min(back_off_ * 2, options_.max_back_off);
  if (was_member) alone_since_ = now;
  // Once: a coordinator that stays away is no news.
  if (stopping_) {
    spdlog::info("no session with the coordinator any more: {}", OneLine(why));
  } else if (was_member || why != why_apart_) {
    spdlog::warn("no session with the coordinator at {}: {}; trying again", options_.coordinator,
                 OneLine(why));
  }
  why_apart_ = why;
}

void WorkerState::OnLinks(int live_links) { links_ = live_links; }

void WorkerState::OnHoldingsSettled(bool empty) {
  settled_ = true;
  empty_ = empty;
}

void WorkerState::OnStop(TimePoint now) {
  if (phase_ == Phase::kDone) return;
  if (stopping_) return Exit(absl::OkStatus());
  stopping_ = true;
  leave_deadline_ = now + options_.leave_patience;
}

void WorkerState::HoldNothing() {
  if (letting_go_) return;
  letting_go_ = true;
  WorkerAction action;
  action.kind = WorkerAction::Kind::kHold;
  action.hold.number = hold_number_;
  actions_.push_back(std::move(action));
  OnHoldingsUnsettled();
}

void WorkerState::ForgiveStandstill(TimePoint now) {
  if (next_tick_ == TimePoint::max() || now <= next_tick_ + kStandstill) return;
  // Nobody knows when it began: all of the time since the last tick.
  const Duration late = now - last_tick_;
  // What was received meanwhile is newer than what is forgiven.
  last_heard_ = std::min(now, last_heard_ + late);
  join_deadline_ += late;
  alone_since_ = std::min(now, alone_since_ + late);
}

Duration WorkerState::Silence() const {
  return std::max(lease_ * kSilentLeases, options_.silence_floor);
}

std::vector<WorkerAction> WorkerState::Tick(TimePoint now) {
  ForgiveStandstill(now);
  if (phase_ != Phase::kDone) TickPhase(now);
  if (phase_ != Phase::kDone && stopping_) TickStop(now);
  Plan(now);
  last_tick_ = now;
  return std::exchange(actions_, {});
}

void WorkerState::TickPhase(TimePoint now) {
  if (links_ > 0 || phase_ == Phase::kMember) alone_since_ = now;
  switch (phase_) {
    case Phase::kApart:
      if (stopping_) return;
      if (now - alone_since_ >= options_.join_patience) {
        return Exit(absl::UnavailableError(
            absl::StrFormat("no coordinator at %s: %s", options_.coordinator, why_apart_)));
      }
      if (now < connect_at_) return;
      phase_ = Phase::kJoining;
      join_deadline_ = now + options_.join_timeout;
      Push(WorkerAction::Kind::kConnect);
      return;
    case Phase::kJoining:
      if (now >= join_deadline_) Part("it does not answer", now);
      return;
    case Phase::kMember:
      if (now - last_heard_ >= Silence()) {
        return Part(absl::StrFormat("nothing heard for %.1f s",
                                    std::chrono::duration<double>(now - last_heard_).count()),
                    now);
      }
      if (now < next_beat_) return;
      next_beat_ = now + lease_ / kBeatsALease;
      Push(WorkerAction::Kind::kSendBeat);
      actions_.back().sequence = ++beat_;
      return;
    case Phase::kDone:
      return;
  }
}

void WorkerState::TickStop(TimePoint now) {
  if (phase_ == Phase::kMember && !told_leaving_) {
    told_leaving_ = true;
    Push(WorkerAction::Kind::kSendLeaving);
  }
  // Without a coordinator nobody arranges for others to take over.
  if (phase_ != Phase::kMember || now >= leave_deadline_) HoldNothing();
  if (!letting_go_ || !settled_ || !empty_) return;
  if (!exit_at_.has_value()) exit_at_ = links_ > 0 ? now + options_.linger : now;
  if (now >= *exit_at_) Exit(absl::OkStatus());
}

void WorkerState::Plan(TimePoint now) {
  next_tick_ = TimePoint::max();
  const auto by = [this](TimePoint time) { next_tick_ = std::min(next_tick_, time); };
  switch (phase_) {
    case Phase::kApart:
      if (stopping_) break;
      by(connect_at_);
      if (links_ == 0) by(alone_since_ + options_.join_patience);
      break;
    case Phase::kJoining:
      by(join_deadline_);
      break;
    case Phase::kMember:
      by(next_beat_);
      by(last_heard_ + Silence());
      break;
    case Phase::kDone:
      return;
  }
  if (stopping_ && !letting_go_) by(leave_deadline_);
  if (exit_at_.has_value()) by(*exit_at_);
  next_tick_ = std::max(next_tick_, now);
}

}  // namespace sheaf
