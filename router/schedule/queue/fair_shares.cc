#include "router/schedule/queue/fair_shares.h"

#include <algorithm>
#include <tuple>

namespace sheaf {

bool FairShares::Earlier::operator()(const Member* a, const Member* b) const {
  return std::tie(a->served, a->running, a->arrival) < std::tie(b->served, b->running, b->arrival);
}

void FairShares::BeginWaiting(Member& member) {
  if (member.waits) return;
  member.served = std::max(member.served, level_);
  member.waits = true;
  waiting_.insert(&member);
}

void FairShares::EndWaiting(Member& member) {
  if (!member.waits) return;
  waiting_.erase(&member);
  member.waits = false;
}

template <typename Change>
void FairShares::Reorder(Member& member, const Change& change) {
  if (!member.waits) {
    change();
    return;
  }
  auto node = waiting_.extract(&member);
  change();
  waiting_.insert(std::move(node));
}

void FairShares::Charge(Member& member, int64_t tokens) {
  if (tokens == 0) return;
  Reorder(member, [&] { member.served += tokens; });
  RaiseLevel(member);
}

void FairShares::SetRunning(Member& member, int running) {
  Reorder(member, [&] { member.running = running; });
}

void FairShares::RaiseLevel(const Member& changed) {
  level_ = std::max(level_, waiting_.empty() ? changed.served : (*waiting_.begin())->served);
}

bool FairShares::Preview::TouchedIsNext() const {
  if (touched_.empty()) return false;
  return untouched_ == end_ || Earlier()(&touched_.top().as_if, *untouched_);
}

FairShares::Member* FairShares::Preview::next() const {
  if (TouchedIsNext()) return touched_.top().member;
  return untouched_ == end_ ? nullptr : *untouched_;
}

void FairShares::Preview::Take(int64_t tokens, bool still_waits) {
  Touched taken{};
  if (TouchedIsNext()) {
    taken = touched_.top();
    touched_.pop();
  } else {
    taken = {**untouched_, *untouched_};
    ++untouched_;
  }
  if (!still_waits) return;
  taken.as_if.served += tokens;
  ++taken.as_if.running;
  touched_.push(taken);
}

}  // namespace sheaf
