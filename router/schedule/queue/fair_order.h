#pragma once
// FairOrder: who of those that wait is next.
//
//   priority   strict, lower first. A priority that waits and is not served gains a level for each
//              `aging` that passes, at most max_aging_levels, and loses them when it is served: one
//              that is d levels worse is served at least once in d * aging, if d is in reach and
//              the better ones are served more often than once in `aging`; from farther away, and
//              on a machine that slow, only when the better ones are empty.
//   key        within a priority equal shares (fair_shares.h) between fairness keys, by tokens
//              served: those of prompts that were computed, and those of outputs as they come.
//   group      within a key equal shares between groups (the choices of one request): the second
//              request of a key stands behind one choice of the first, not behind all of them.
//   in a group as they came.
//
// Preempted  for want of memory: in front of its priority, those that ran first in front.
//            Displaced to make room for another's share: in front of its group.
// Charges    whoever is taken is charged its tokens at once, or all of a key's would be taken
//            before the first has run; what it did not have to compute (cached, ended early) is
//            given back.
// Memory     keys with nothing waiting or running are remembered only while they have a debt, at
//            most max_idle_keys a priority, and none of a priority with nothing waiting or running.
// Threads    none of its own: the caller's lock.
// Cost       O(log n) an operation; Peek O(count log n); AheadOf O(keys + priorities).

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "router/schedule/queue/fair_shares.h"

namespace sheaf {

class FairOrder {
 public:
  struct Options {
    Duration aging = std::chrono::seconds(2);
    int max_aging_levels = 10;
    int max_idle_keys = 4096;
  };
  struct Newcomer {
    SequenceId id;
    int32_t priority = 0;
    std::string_view key{};
    uint64_t group = 0;
    int tokens = 0;  // to compute before its next token
  };
  // Of one that waits or runs. Keys and groups have numbers, unique over all priorities.
  struct Standing {
    SequenceId id;
    int32_t priority = 0;
    uint64_t key = 0;
    uint64_t group = 0;
    int tokens = 0;
    TimePoint key_unserved_since;    // began to wait, or had one taken
    TimePoint group_unserved_since;  // the same of the group
    TimePoint taken;                 // last; of one that runs
    int displaced = 0;               // so often
  };
  struct Work {
    int64_t sequences = 0;
    int64_t tokens = 0;
  };

  explicit FairOrder(const Options& options) : options_(options) {}
  FairOrder() : FairOrder(Options{}) {}

  void Add(const Newcomer& newcomer, TimePoint now);
  // It runs from now on.
  void Take(SequenceId id, TimePoint now);
  enum class ComesBack { kPreempted, kDisplaced };
  // It ran and waits again, with `tokens` to compute.
  void Return(SequenceId id, int tokens, ComesBack how, TimePoint now);
  // One that runs has computed `tokens` more; `prefilled`: all it had.
  void Ran(SequenceId id, int tokens, bool prefilled);
  // It has ended, waiting or running.
  void Forget(SequenceId id);

  // The first `count`, as they would be taken one after the other.
  std::vector<SequenceId> Peek(int count, TimePoint now);

  bool Knows(SequenceId id) const { return items_.contains(id); }
  bool Waits(SequenceId id) const;
  Standing StandingOf(SequenceId id) const;
  // What would surely be taken before a newcomer, as things stand: of its own key one choice of
  // each request, and of every other key as much.
  Work AheadOf(int32_t priority, std::string_view key) const;
  Work waiting() const { return waiting_; }
  int num_keys() const;  // idle ones that are remembered included

 private:
  struct Band;
  struct Key;
  struct Item;
  struct Group : FairShares::Member {
    Key* key = nullptr;
    uint64_t name = 0;
    std::list<Item*> waiting;
    int alive = 0;
    TimePoint unserved_since{};
  };
  struct Key : FairShares::Member {
    Band* band = nullptr;
    std::string name;
    FairShares shares;  // between groups
    std::unordered_map<uint64_t, Group> groups;
    int alive = 0;
    Work waiting{};
    int64_t front_tokens = 0;  // of the first of each group that waits
    TimePoint unserved_since{};
  };
  enum class State { kWaits, kReturned, kRuns };
  struct Item {
    SequenceId id;
    Group* group = nullptr;
    State state = State::kWaits;
    int tokens = 0;
    int64_t prepaid = 0;  // charged and not yet computed
    std::list<Item*>::iterator place{};
    TimePoint first_taken = TimePoint::max();
    TimePoint taken{};
    int displaced = 0;
  };
  struct RanFirst {
    bool operator()(const Item* a, const Item* b) const {
      return std::tie(a->first_taken, a->id) < std::tie(b->first_taken, b->id);
    }
  };
  struct Band {
    int32_t priority = 0;
    FairShares shares;  // between keys
    std::unordered_map<std::string_view, std::unique_ptr<Key>> keys;  // by Key::name
    std::set<std::pair<int64_t, Key*>> idle;                          // served; nothing alive
    std::set<Item*, RanFirst> returned;
    int alive = 0;
    int64_t waiting = 0;
    int levels = 0;  // gained by age
    TimePoint promotion{};
  };
  // Effective level, most aged first, priority.
  using Place = std::tuple<int64_t, int, int32_t>;
  class BandView;

  static Place PlaceOf(const Band& band) {
    return {int64_t{band.priority} - band.levels, -band.levels, band.priority};
  }
  Key& KeyOf(Band& band, std::string_view name);
  void Enqueue(Item& item, bool in_front, TimePoint now);
  void Dequeue(Item& item);
  void Count(Band& band, int sign, int tokens);
  void SetLevels(Band& band, int levels, TimePoint now);
  void Age(TimePoint now);
  void StopRunning(Item& item);
  static void Charge(Group& group, int64_t tokens);
  static void SetRunning(Group& group, int change);
  static void DropPaid(Band& band);

  const Options options_;
  std::unordered_map<SequenceId, Item> items_;
  std::map<int32_t, std::unique_ptr<Band>> bands_;
  std::set<Place> order_;                             // of bands with something waiting
  std::set<std::pair<TimePoint, int32_t>> promotions_;  // of those, that can age
  Work waiting_;
  uint64_t arrivals_ = 0;
};

}  // namespace sheaf
