#include "router/schedule/queue/fair_order.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "base/check.h"

namespace sheaf {

FairOrder::Key& FairOrder::KeyOf(Band& band, std::string_view name) {
  if (const auto found = band.keys.find(name); found != band.keys.end()) {
    Key& key = *found->second;
    if (key.alive == 0) band.idle.erase({key.served, &key});
    return key;
  }
  auto key = std::make_unique<Key>();
  key->band = &band;
  key->name = name;
  key->arrival = ++arrivals_;
  const std::string_view stable = key->name;
  return *band.keys.emplace(stable, std::move(key)).first->second;
}

void FairOrder::Add(const Newcomer& newcomer, TimePoint now) {
  std::unique_ptr<Band>& band = bands_[newcomer.priority];
  if (band == nullptr) {
    band = std::make_unique<Band>();
    band->priority = newcomer.priority;
  }
  Key& key = KeyOf(*band, newcomer.key);
  Group& group = key.groups[newcomer.group];
  if (group.key == nullptr) {
    group.key = &key;
    group.name = newcomer.group;
    group.arrival = ++arrivals_;
  }
  ++band->alive;
  ++key.alive;
  ++group.alive;
  Item& item = items_[newcomer.id];
  SHEAF_CHECK(item.group == nullptr, "a sequence waits once");
  item.id = newcomer.id;
  item.group = &group;
  item.tokens = newcomer.tokens;
  Enqueue(item, /*in_front=*/false, now);
}

void FairOrder::Enqueue(Item& item, bool in_front, TimePoint now) {
  Group& group = *item.group;
  Key& key = *group.key;
  if (!group.waiting.empty()) key.front_tokens -= group.waiting.front()->tokens;
  item.place = group.waiting.insert(in_front ? group.waiting.begin() : group.waiting.end(), &item);
  key.front_tokens += group.waiting.front()->tokens;
  item.state = State::kWaits;
  ++key.waiting.sequences;
  key.waiting.tokens += item.tokens;
  if (!group.waits) group.unserved_since = now;
  if (!key.waits) key.unserved_since = now;
  key.shares.BeginWaiting(group);
  key.band->shares.BeginWaiting(key);
  if (key.band->waiting == 0) SetLevels(*key.band, 0, now);
  Count(*key.band, +1, item.tokens);
}

void FairOrder::Dequeue(Item& item) {
  Group& group = *item.group;
  Key& key = *group.key;
  key.front_tokens -= group.waiting.front()->tokens;
  group.waiting.erase(item.place);
  --key.waiting.sequences;
  key.waiting.tokens -= item.tokens;
  if (group.waiting.empty()) {
    key.shares.EndWaiting(group);
  } else {
    key.front_tokens += group.waiting.front()->tokens;
  }
  if (key.waiting.sequences == 0) key.band->shares.EndWaiting(key);
  Count(*key.band, -1, item.tokens);
}

// One more or fewer waits in this band.
void FairOrder::Count(Band& band, int sign, int tokens) {
  waiting_.sequences += sign;
  waiting_.tokens += sign * tokens;
  band.waiting += sign;
  if (band.waiting > 0) {
    order_.insert(PlaceOf(band));
  } else {
    order_.erase(PlaceOf(band));
    promotions_.erase({band.promotion, band.priority});
  }
}

// From `now` on the band has these levels.
void FairOrder::SetLevels(Band& band, int levels, TimePoint now) {
  const bool waits = order_.erase(PlaceOf(band)) > 0;
  promotions_.erase({band.promotion, band.priority});
  band.levels = levels;
  band.promotion = now + options_.aging;
  if (waits) order_.insert(PlaceOf(band));
  if (levels < options_.max_aging_levels) promotions_.insert({band.promotion, band.priority});
}

void FairOrder::Age(TimePoint now) {
  while (!promotions_.empty() && promotions_.begin()->first <= now) {
    Band& band = *bands_.at(promotions_.begin()->second);
    SetLevels(band, band.levels + 1, band.promotion);
  }
}

// Those whose debt the others have caught up with.
void FairOrder::DropPaid(Band& band) {
  while (!band.idle.empty() && band.idle.begin()->first <= band.shares.level()) {
    const std::string_view name = band.idle.begin()->second->name;
    band.idle.erase(band.idle.begin());
    band.keys.erase(name);
  }
}

void FairOrder::Charge(Group& group, int64_t tokens) {
  group.key->shares.Charge(group, tokens);
  group.key->band->shares.Charge(*group.key, tokens);
  DropPaid(*group.key->band);
}

void FairOrder::SetRunning(Group& group, int change) {
  group.key->shares.SetRunning(group, group.running + change);
  group.key->band->shares.SetRunning(*group.key, group.key->running + change);
}

void FairOrder::Take(SequenceId id, TimePoint now) {
  Item& item = items_.at(id);
  Band& band = *item.group->key->band;
  if (item.state == State::kWaits) {
    Dequeue(item);
  } else {
    SHEAF_CHECK(item.state == State::kReturned, "who runs is not taken");
    band.returned.erase(&item);
    Count(band, -1, item.tokens);
  }
  if (band.waiting > 0) SetLevels(band, 0, now);
  item.state = State::kRuns;
  item.taken = now;
  item.first_taken = std::min(item.first_taken, now);
  item.prepaid = item.tokens;
  item.group->unserved_since = now;
  item.group->key->unserved_since = now;
  SetRunning(*item.group, +1);
  Charge(*item.group, item.prepaid);
}

void FairOrder::StopRunning(Item& item) {
  SetRunning(*item.group, -1);
  Charge(*item.group, -std::exchange(item.prepaid, 0));
}

void FairOrder::Return(SequenceId id, int tokens, ComesBack how, TimePoint now) {
  Item& item = items_.at(id);
  Band& band = *item.group->key->band;
  StopRunning(item);
  item.tokens = tokens;
  if (how == ComesBack::kDisplaced) {
    ++item.displaced;
    Enqueue(item, /*in_front=*/true, now);
    return;
  }
  item.state = State::kReturned;
  band.returned.insert(&item);
  if (band.waiting == 0) SetLevels(band, 0, now);
  Count(band, +1, tokens);
}

void FairOrder::Ran(SequenceId id, int tokens, bool prefilled) {
  const auto found = items_.find(id);
  if (found == items_.end()) return;
  Item& item = found->second;
  const int64_t paid = std::min<int64_t>(item.prepaid, tokens);
  item.prepaid -= paid;
  const int64_t back = prefilled ? std::exchange(item.prepaid, 0) : 0;
  Charge(*item.group, tokens - paid - back);
}

void FairOrder::Forget(SequenceId id) {
  const auto found = items_.find(id);
  if (found == items_.end()) return;
  Item& item = found->second;
  Group& group = *item.group;
  Key& key = *group.key;
  Band& band = *key.band;
  if (item.state == State::kWaits) {
    Dequeue(item);
  } else if (item.state == State::kReturned) {
    band.returned.erase(&item);
    Count(band, -1, item.tokens);
  } else {
    StopRunning(item);
  }
  items_.erase(found);
  if (--group.alive == 0) {
    const uint64_t name = group.name;
    key.groups.erase(name);
  }
  if (--key.alive == 0) {
    band.idle.insert({key.served, &key});
    DropPaid(band);
    if (static_cast<int>(band.idle.size()) > options_.max_idle_keys) {
      const std::string_view name = band.idle.begin()->second->name;
      band.idle.erase(band.idle.begin());
      band.keys.erase(name);
    }
  }
  if (--band.alive == 0) {
    const int32_t priority = band.priority;
    bands_.erase(priority);
  }
}

// The order of one band, turn after turn.
class FairOrder::BandView {
 public:
  explicit BandView(const Band& band)
      : returned_(band.returned.begin()),
        returned_end_(band.returned.end()),
        keys_(band.shares),
        left_(band.waiting) {}

  bool empty() const { return left_ == 0; }
  SequenceId Next() {
    --left_;
    if (returned_ != returned_end_) return (*returned_++)->id;
    Key* const key = static_cast<Key*>(keys_.next());
    KeyView& in_key = views_.try_emplace(key, *key).first->second;
    Group* const group = static_cast<Group*>(in_key.groups.next());
    auto& place = in_key.places.try_emplace(group, group->waiting.begin()).first->second;
    const Item& item = **place++;
    in_key.groups.Take(item.tokens, place != group->waiting.end());
    keys_.Take(item.tokens, --in_key.left > 0);
    return item.id;
  }

 private:
  struct KeyView {
    explicit KeyView(const Key& key) : groups(key.shares), left(key.waiting.sequences) {}
    FairShares::Preview groups;
    int64_t left;
    std::unordered_map<Group*, std::list<Item*>::iterator> places;
  };
  std::set<Item*, RanFirst>::const_iterator returned_, returned_end_;
  FairShares::Preview keys_;
  int64_t left_;
  std::unordered_map<Key*, KeyView> views_;
};

std::vector<SequenceId> FairOrder::Peek(int count, TimePoint now) {
  Age(now);
  std::vector<SequenceId> ids;
  auto untouched = order_.begin();
  std::priority_queue<Place, std::vector<Place>, std::greater<>> touched;
  std::map<int32_t, BandView> views;
  while (static_cast<int>(ids.size()) < count) {
    Place place;
    if (!touched.empty() && (untouched == order_.end() || touched.top() < *untouched)) {
      place = touched.top();
      touched.pop();
    } else if (untouched != order_.end()) {
      place = *untouched++;
    } else {
      break;
    }
    const int32_t priority = std::get<2>(place);
    BandView& view = views.try_emplace(priority, *bands_.at(priority)).first->second;
    ids.push_back(view.Next());
    if (!view.empty()) touched.push({priority, 0, priority});
  }
  return ids;
}

bool FairOrder::Waits(SequenceId id) const {
  const auto found = items_.find(id);
  return found != items_.end() && found->second.state != State::kRuns;
}

FairOrder::Standing FairOrder::StandingOf(SequenceId id) const {
  const Item& item = items_.at(id);
  const Group& group = *item.group;
  const Key& key = *group.key;
  return {id,          key.band->priority,   key.arrival,          group.arrival, item.tokens,
          key.unserved_since, group.unserved_since, item.taken, item.displaced};
}

FairOrder::Work FairOrder::AheadOf(int32_t priority, std::string_view name) const {
  Work ahead;
  for (auto band = bands_.begin(); band != bands_.end() && band->first < priority; ++band) {
    for (const FairShares::Member* member : band->second->shares.waiting()) {
      const Key& key = *static_cast<const Key*>(member);
      ahead.sequences += key.waiting.sequences;
      ahead.tokens += key.waiting.tokens;
    }
  }
  const auto found = bands_.find(priority);
  if (found == bands_.end()) return ahead;
  const Band& band = *found->second;
  const auto own = band.keys.find(name);
  if (own == band.keys.end() || own->second->waiting.sequences == 0) return ahead;
  const Work of_key = {own->second->shares.num_waiting(), own->second->front_tokens};
  for (const FairShares::Member* member : band.shares.waiting()) {
    const Key& key = *static_cast<const Key*>(member);
    ahead.sequences += std::min(key.waiting.sequences, of_key.sequences);
    ahead.tokens += std::min(key.waiting.tokens, of_key.tokens);
  }
  return ahead;
}

int FairOrder::num_keys() const {
  size_t keys = 0;
  for (const auto& [priority, band] : bands_) keys += band->keys.size();
  return static_cast<int>(keys);
}

}  // namespace sheaf
