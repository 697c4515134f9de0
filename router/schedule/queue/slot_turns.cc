#include "router/schedule/queue/slot_turns.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

namespace sheaf {
namespace {

class Turns {
 public:
  Turns(const FairOrder::Standing& next, std::span<const SlotHolder> running,
        const SlotTurnOptions& options, TimePoint now)
      : next_(next), options_(options), now_(now), running_(running), gone_(running.size(), false) {
    for (const SlotHolder& holder : running) {
      ++of_key_[holder.standing.key];
      ++of_group_[holder.standing.group];
    }
  }

  std::vector<SequenceId> MakeRoom(SlotRoom room) {
    std::vector<SequenceId> yielding;
    while (room.free_slots < 1 || room.free_blocks < room.blocks_wanted) {
      const SlotHolder* const asked = Ask();
      if (asked == nullptr) return {};
      yielding.push_back(asked->standing.id);
      ++room.free_slots;
      room.free_blocks += asked->blocks;
    }
    return yielding;
  }

 private:
  // The one to go, taken out of the counts; null: nobody may be asked.
  const SlotHolder* Ask() {
    size_t best = running_.size();
    for (size_t i = 0; i < running_.size(); ++i) {
      if (gone_[i] || !MayAsk(running_[i].standing)) continue;
      if (best == running_.size() || Rank(running_[i]) < Rank(running_[best])) best = i;
    }
    if (best == running_.size()) return nullptr;
    gone_[best] = true;
    --of_key_[running_[best].standing.key];
    --of_group_[running_[best].standing.group];
    return &running_[best];
  }

  bool MayAsk(const FairOrder::Standing& holder) const {
    if (now_ - holder.taken < Turn(holder.displaced)) return false;
    if (next_.priority < holder.priority) {
      return now_ - next_.group_unserved_since >= options_.priority_patience;
    }
    if (next_.priority > holder.priority) return false;
    if (next_.key != holder.key) {
      return now_ - next_.key_unserved_since >= options_.patience &&
             Count(of_key_, holder.key) >= Count(of_key_, next_.key) + 2;
    }
    return next_.group != holder.group && now_ - next_.group_unserved_since >= options_.patience &&
           Count(of_group_, holder.group) >= Count(of_group_, next_.group) + 2;
  }

  Duration Turn(int displaced) const {
    constexpr int kMostDoublings = 16;
    if (displaced == 0) return options_.min_turn;
    return options_.later_turn * (1 << std::min(displaced - 1, kMostDoublings));
  }

  // Smaller: sooner asked.
  std::tuple<int64_t, int, int, int, uint64_t> Rank(const SlotHolder& holder) const {
    const FairOrder::Standing& standing = holder.standing;
    return {-int64_t{standing.priority}, -Count(of_key_, standing.key),
            -Count(of_group_, standing.group), holder.computed_tokens, standing.id.value()};
  }

  static int Count(const std::unordered_map<uint64_t, int>& counts, uint64_t of) {
    const auto found = counts.find(of);
    return found == counts.end() ? 0 : found->second;
  }

  const FairOrder::Standing& next_;
  const SlotTurnOptions& options_;
  const TimePoint now_;
  const std::span<const SlotHolder> running_;
  std::vector<bool> gone_;
  std::unordered_map<uint64_t, int> of_key_, of_group_;
};

}  // namespace

std::vector<SequenceId> WhoYields(const FairOrder::Standing& next,
                                  std::span<const SlotHolder> running, const SlotRoom& room,
                                  const SlotTurnOptions& options, TimePoint now) {
  const bool fits = room.free_slots >= 1 && room.free_blocks >= room.blocks_wanted;
  const TimePoint since = std::min(next.group_unserved_since, next.key_unserved_since);
  if (fits || now - since < std::min(options.priority_patience, options.patience)) return {};
  return Turns(next, running, options, now).MakeRoom(room);
}

}  // namespace sheaf
