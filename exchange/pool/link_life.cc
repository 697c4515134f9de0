#include "exchange/pool/link_life.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

int64_t Milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace

void LinkLife::SetWanted(bool wanted, TimePoint now) {
  if (wanted && !wanted_ && state_ == State::kIdle) {
    state_ = State::kBackOff;
    until_ = now;
  }
  if (!wanted && state_ == State::kBackOff) state_ = State::kIdle;
  wanted_ = wanted;
}

void LinkLife::StartAfresh(TimePoint now) {
  back_off_ = Duration(0);
  owed_.clear();
  state_ = wanted_ ? State::kBackOff : State::kIdle;
  until_ = now;
}

void LinkLife::Connected(TimePoint now) {
  state_ = State::kGreeting;
  answered_ = false;
  until_ = now + options_.greeting_timeout;
  live_since_ = now;
}

void LinkLife::ConnectFailed(const absl::Status& why, TimePoint now) {
  if (absl::IsFailedPrecondition(why)) {
    BackOff(options_.refused_back_off, now);
    return;
  }
  back_off_ = back_off_ == Duration(0) ? options_.first_back_off
                                       : std::min(2 * back_off_, options_.max_back_off);
  BackOff(back_off_, now);
}

void LinkLife::Greeted(TimePoint now) {
  if (state_ != State::kGreeting) return;
  state_ = State::kLive;
  live_since_ = now;
}

void LinkLife::Broken(TimePoint now) {
  const bool served = state_ == State::kLive &&
                      (answered_ || now - live_since_ >= options_.max_back_off);
  back_off_ = served || back_off_ == Duration(0)
                  ? options_.first_back_off
                  : std::min(2 * back_off_, options_.max_back_off);
  owed_.clear();
  BackOff(back_off_, now);
}

void LinkLife::BackOff(Duration pause, TimePoint now) {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  const double chance = double(random_ >> 11) * 0x1p-53;
  state_ = wanted_ ? State::kBackOff : State::kIdle;
  until_ = now + pause + std::chrono::duration_cast<Duration>(pause * (chance / 2));
}

std::optional<LinkLife::OwedAnswer> LinkLife::Answered(uint64_t sequence) {
  const auto at = std::find_if(owed_.begin(), owed_.end(), [&](const OwedAnswer& owed) {
    return owed.dispatch.sequence == sequence;
  });
  if (at == owed_.end()) return std::nullopt;
  const OwedAnswer owed = *at;
  owed_.erase(at);
  answered_ = true;
  return owed;
}

void LinkLife::Forgive(Duration by) {
  for (OwedAnswer& owed : owed_) owed.silent_at += by;
  if (state_ == State::kGreeting) until_ += by;
}

LinkLife::Action LinkLife::Due(TimePoint now) {
  if (state_ == State::kBackOff && until_ <= now) {
    state_ = State::kConnecting;
    return Action::kConnect;
  }
  if (state_ == State::kGreeting && until_ <= now) return Action::kBreak;
  for (const OwedAnswer& owed : owed_) {
    if (owed.silent_at <= now) return Action::kBreak;
  }
  return Action::kNone;
}

absl::Status LinkLife::Why(TimePoint now) const {
  for (const OwedAnswer& owed : owed_) {
    if (owed.silent_at > now) continue;
    return absl::DeadlineExceededError(absl::StrFormat("no answer to %s for %d ms",
                                                  Describe(owed.dispatch),
                                                  Milliseconds(now - owed.asked_at)));
  }
  return absl::DeadlineExceededError(absl::StrFormat("announced nothing for %d ms after the hello",
                                                Milliseconds(now - live_since_)));
}

TimePoint LinkLife::WakeAt() const {
  TimePoint wake = TimePoint::max();
  if (state_ == State::kBackOff || state_ == State::kGreeting) wake = until_;
  for (const OwedAnswer& owed : owed_) wake = std::min(wake, owed.silent_at);
  return wake;
}

}  // namespace sheaf
