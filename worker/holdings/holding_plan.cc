#include "worker/holdings/holding_plan.h"

#include <algorithm>
#include <utility>

namespace sheaf {

HoldingPlan::HoldingPlan(const HoldingPlanOptions& options)
    : options_(options),
      wanted_(options.num_layers, options.num_experts),
      announced_(options.num_layers, options.num_experts),
      target_(options.num_layers, options.num_experts) {
  announced_.number = 1;
}

bool HoldingPlan::Missing(const LayerExpert& pair) const {
  return Wanted(pair) && !Held(pair) && loading_.count(pair) == 0 && failed_.count(pair) == 0;
}

void HoldingPlan::Show(const LayerExpert& pair, bool at_once) {
  target_.Add(pair.layer, pair.expert);
  changed_ = true;
  at_once_ = at_once_ || at_once;
}

void HoldingPlan::Retire(const LayerExpert& pair) {
  // What is announced may lack it already: it was wanted, and not for long enough to be told.
  const bool told = announced_.Has(pair.layer, pair.expert);
  retiring_[pair] = Retiring{told ? 0 : announced_.number, TimePoint::max()};
  target_.Remove(pair.layer, pair.expert);
  changed_ = true;
  at_once_ = true;
}

void HoldingPlan::Want(HoldRequest request) {
  request_ = std::move(request);
  request_.num_urgent = std::min(request_.num_urgent, request_.experts.size());
  wanted_ = Holdings(options_.num_layers, options_.num_experts);
  urgent_ = wanted_;
  for (size_t i = 0; i < request_.experts.size(); ++i) {
    const LayerExpert& pair = request_.experts[i];
    wanted_.Add(pair.layer, pair.expert);
    if (i < request_.num_urgent) urgent_.Add(pair.layer, pair.expert);
  }
  failed_.clear();
  next_ = 0;
  next_paced_load_ = TimePoint::min();

  for (const auto& [pair, bytes] : held_) {
    const bool going = retiring_.count(pair) != 0;
    if (!Wanted(pair)) {
      if (!going) Retire(pair);
    } else if (going && bad_.count(pair) == 0) {
      retiring_.erase(pair);
      Show(pair, true);
    }
  }
  std::erase_if(again_, [this](const LayerExpert& pair) { return !Wanted(pair); });
  num_left_ = 0;
  for (const LayerExpert& pair : request_.experts) num_left_ += Held(pair) ? 0 : 1;
}

void HoldingPlan::Reload(const LayerExpert& pair) {
  if (!Held(pair) || !Wanted(pair) || retiring_.count(pair) != 0) return;
  if (std::find(again_.begin(), again_.end(), pair) == again_.end()) again_.push_back(pair);
}

void HoldingPlan::Seen(uint64_t number) { seen_ = std::max(seen_, number); }

HoldingPlan::Verdict HoldingPlan::Loaded(const LayerExpert& pair, size_t resident_bytes) {
  loading_.erase(pair);
  if (!Wanted(pair) || retiring_.count(pair) != 0) return Verdict::kNotWanted;
  if (options_.memory_bytes != 0 && UsedBytes() + resident_bytes > options_.memory_bytes) {
    LoadFailed(pair);
    return Verdict::kNoRoom;
  }
  if (Held(pair)) {
    going_bytes_ += held_[pair];
    held_bytes_ -= held_[pair];
  } else {
    --num_left_;
    Show(pair, urgent_.Has(pair.layer, pair.expert));
  }
  held_[pair] = resident_bytes;
  held_bytes_ += resident_bytes;
  return Verdict::kKeep;
}

void HoldingPlan::LoadFailed(const LayerExpert& pair) {
  loading_.erase(pair);
  if (Held(pair)) {  // a replacement that cannot be had: the wrong one must not serve
    if (Wanted(pair) && retiring_.count(pair) == 0) {
      bad_.insert(pair);
      failed_.insert(pair);
      Retire(pair);
    }
    return;
  }
  if (!Wanted(pair)) return;
  failed_.insert(pair);
  --num_left_;
}

void HoldingPlan::Freed(size_t bytes) { going_bytes_ -= std::min<uint64_t>(going_bytes_, bytes); }

uint64_t HoldingPlan::UsedBytes() const {
  return held_bytes_ + going_bytes_ + loading_.size() * options_.expert_bytes;
}

uint64_t HoldingPlan::left_bytes() const { return num_left_ * options_.expert_file_bytes; }

bool HoldingPlan::quiet() const {
  return num_left_ == 0 && !changed_ && loading_.empty() && retiring_.empty() && again_.empty() &&
         going_bytes_ == 0;
}

HoldingAction HoldingPlan::Next(TimePoint now) {
  if (auto drop = Drop(now)) return *std::move(drop);
  if (auto announcement = Announce(now)) return *std::move(announcement);
  HoldingAction wait;
  if (auto load = Load(now, wait.until)) return *std::move(load);
  if (changed_) wait.until = std::min(wait.until, next_announcement_);
  for (const auto& [pair, retiring] : retiring_)
    wait.until = std::min(wait.until, retiring.deadline);
  return wait;
}

std::optional<HoldingAction> HoldingPlan::Drop(TimePoint now) {
  HoldingAction action;
  action.kind = HoldingAction::Kind::kDrop;
  for (auto it = retiring_.begin(); it != retiring_.end();) {
    auto& [pair, retiring] = *it;
    const bool told = retiring.number != 0;
    if (told && retiring.deadline == TimePoint::max())
      retiring.deadline = now + options_.seen_patience;
    if (!told || (retiring.number > seen_ && now < retiring.deadline)) {
      ++it;
      continue;
    }
    action.experts.push_back(pair);
    going_bytes_ += held_[pair];
    held_bytes_ -= held_[pair];
    held_.erase(pair);
    bad_.erase(pair);
    if (Wanted(pair) && failed_.count(pair) == 0) {
      ++num_left_;
      next_ = 0;
    }
    it = retiring_.erase(it);
  }
  if (action.experts.empty()) return std::nullopt;
  return action;
}

std::optional<HoldingAction> HoldingPlan::Announce(TimePoint now) {
  if (!changed_) return std::nullopt;
  if (!at_once_ && num_left_ > 0 && now < next_announcement_) return std::nullopt;
  changed_ = at_once_ = false;
  next_announcement_ = now + options_.announce_every;
  target_.number = announced_.number;
  if (target_ == announced_) return std::nullopt;  // it went and came back meanwhile
  announced_ = target_;
  ++announced_.number;
  for (auto& [pair, retiring] : retiring_) {
    if (retiring.number != 0) continue;
    retiring.number = announced_.number;
    retiring.deadline = now + options_.seen_patience;
  }
  HoldingAction action;
  action.kind = HoldingAction::Kind::kAnnounce;
  action.holdings = announced_;
  return action;
}

void HoldingPlan::SkipWhatIsNotMissing() {
  while (next_ < request_.experts.size() && !Missing(request_.experts[next_])) ++next_;
}

std::optional<HoldingAction> HoldingPlan::LoadAgain() {
  const LayerExpert pair = again_.front();
  again_.pop_front();
  // It may be under way already, or going.
  if (!Held(pair) || loading_.count(pair) != 0 || retiring_.count(pair) != 0) return std::nullopt;
  if (options_.memory_bytes != 0 && UsedBytes() + options_.expert_bytes > options_.memory_bytes) {
    bad_.insert(pair);
    Retire(pair);
    return std::nullopt;
  }
  loading_.insert(pair);
  HoldingAction action;
  action.kind = HoldingAction::Kind::kLoad;
  action.experts = {pair};
  return action;
}

std::optional<HoldingAction> HoldingPlan::Load(TimePoint now, TimePoint& wake) {
  while (!again_.empty()) {
    if (auto action = LoadAgain()) return action;
    if (auto announcement = Announce(now)) return announcement;  // it goes first
  }
  SkipWhatIsNotMissing();
  if (next_ == request_.experts.size()) return std::nullopt;
  const LayerExpert pair = request_.experts[next_];
  HoldingAction action;
  action.experts = {pair};
  if (options_.memory_bytes != 0 && UsedBytes() + options_.expert_bytes > options_.memory_bytes) {
    if (!retiring_.empty() || going_bytes_ > 0 || !loading_.empty()) return std::nullopt;
    action.kind = HoldingAction::Kind::kRefuse;
    action.number = request_.number;
    failed_.insert(pair);
    --num_left_;
    return action;
  }
  if (next_ >= request_.num_urgent && request_.max_bytes_per_second > 0) {
    if (now < next_paced_load_) {
      wake = std::min(wake, next_paced_load_);
      return std::nullopt;
    }
    const std::chrono::duration<double> takes(
        static_cast<double>(options_.expert_file_bytes) /
        static_cast<double>(request_.max_bytes_per_second));
    // Hours at most: a ceiling of a byte a second must not leave the clock's range.
    next_paced_load_ = now + std::chrono::duration_cast<Duration>(
                                 std::min(takes, std::chrono::duration<double>(86'400)));
  }
  loading_.insert(pair);
  action.kind = HoldingAction::Kind::kLoad;
  return action;
}

std::optional<LayerExpert> HoldingPlan::Ahead(size_t n) const {
  const size_t at = next_ + n;
  if (at >= request_.experts.size() || !Missing(request_.experts[at])) return std::nullopt;
  if (at >= request_.num_urgent && request_.max_bytes_per_second > 0) return std::nullopt;
  return request_.experts[at];
}

}  // namespace sheaf
