#include "coordinator/pool_planner.h"

#include <algorithm>

#include "coordinator/moves.h"

namespace sheaf {
namespace {

// Holds that a worker may have unanswered; it hears no further one before it speaks.
constexpr size_t kMaxUnanswered = 8;

// One entry a run of neighbours in a layer.
class RangeWriter {
 public:
  RangeWriter(const ExpertGrid& grid, v1::Hold& hold) : grid_(grid), hold_(hold) {}
  void Add(size_t i) {
    const int layer = grid_.LayerOf(i);
    const int expert = grid_.ExpertOf(i);
    const int entries = hold_.experts_size();
    if (entries > barrier_) {
      v1::ExpertRange& last = *hold_.mutable_experts(entries - 1);
      if (last.layer() == layer && last.end() == expert) {
        last.set_end(expert + 1);
        return;
      }
    }
    v1::ExpertRange& range = *hold_.add_experts();
    range.set_layer(layer);
    range.set_begin(expert);
    range.set_end(expert + 1);
  }
  // What comes now does not lengthen an entry from before.
  void Close() { barrier_ = hold_.experts_size(); }

 private:
  const ExpertGrid& grid_;
  v1::Hold& hold_;
  int barrier_ = 0;
};

}  // namespace

uint64_t PoolPlanner::ExpertBytes(const Roster& roster) const {
  uint64_t bytes = 1;
  for (const auto& [id, member] : roster) bytes = std::max(bytes, member.facts.expert_bytes);
  return bytes;
}

PlacementPlan PoolPlanner::Replan(Roster& roster, std::map<WorkerId, LostShare>& lost,
                                  double replicas, std::span<const double> load, bool exact) const {
  PlanRequest request;
  request.grid = grid_;
  request.expert_bytes = ExpertBytes(roster);
  request.replicas = replicas;
  request.tolerance = exact ? 0 : options_.tolerance;
  request.load = load;
  for (const auto& [id, member] : roster) {
    PlanWorker worker;
    worker.worker = id;
    worker.takes = member.takes();
    worker.memory_bytes = member.facts.memory_bytes;
    worker.seconds_per_unit = member.SecondsPerUnit();
    worker.held = &member.held;
    worker.wanted = &member.target;
    worker.refused = &member.refused;
    request.workers.push_back(worker);
  }
  for (const auto& [id, share] : lost) {
    PlanWorker worker;
    worker.worker = id;
    worker.memory_bytes = share.memory_bytes;
    worker.held = &share.target;  // nothing is gained by taking from it what it may bring back
    request.workers.push_back(worker);
  }
  PlacementPlan plan = PlanPlacement(request);
  size_t at = 0;
  for (auto& [id, member] : roster) member.target = plan.targets[at++];
  for (auto& [id, share] : lost) share.target = plan.targets[at++];
  return plan;
}

int64_t PoolPlanner::Adopt(Roster& roster, std::span<const size_t> experts,
                           const std::vector<WorkerId>& among) const {
  PlanRequest request;
  request.grid = grid_;
  request.expert_bytes = ExpertBytes(roster);
  std::vector<Member*> members;
  std::vector<ExpertSet> targets;
  for (const WorkerId id : among) {
    const auto found = roster.find(id);
    if (found == roster.end() || !found->second.takes()) continue;
    Member& member = found->second;
    PlanWorker worker;
    worker.worker = id;
    worker.memory_bytes = member.facts.memory_bytes;
    worker.seconds_per_unit = member.SecondsPerUnit();
    worker.refused = &member.refused;
    request.workers.push_back(worker);
    members.push_back(&member);
    targets.push_back(member.target);
  }
  const int64_t unplaced = AdoptExperts(request, experts, targets);
  for (size_t i = 0; i < members.size(); ++i) members[i]->target = std::move(targets[i]);
  return unplaced;
}

std::vector<std::pair<SessionId, v1::Hold>> PoolPlanner::NextHolds(
    Roster& roster, std::span<const size_t> waited_for, bool unbounded, TimePoint now) const {
  std::vector<std::pair<SessionId, v1::Hold>> holds;
  std::vector<Member*> members;
  std::vector<ExpertSet> certain;
  std::vector<ExpertSet> targets;
  bool leaving = false;
  for (auto& [id, member] : roster) {
    members.push_back(&member);
    certain.push_back(member.Certain());
    // Who leaves loads nothing more.
    targets.push_back(member.leaving ? Both(member.target, member.held) : member.target);
    leaving = leaving || member.leaving;
  }
  std::vector<MoveWorker> workers;
  for (size_t i = 0; i < members.size(); ++i) {
    const Member& member = *members[i];
    workers.push_back({member.counts(), member.slots(), &member.held, &certain[i], &targets[i]});
  }
  std::vector<NextHold> next = PlanMoves(grid_.size(), workers, waited_for);
  for (size_t i = 0; i < members.size(); ++i) {
    Member& member = *members[i];
    if (member.dismissed) continue;
    // One that joined again says first how far it has come with what it was told before.
    if (!member.settled && member.beat.sequence() == 0) continue;
    if (member.quarantine.wrong()) {
      next[i] = NextHold{ExpertSet(grid_.size()), {}, 0};
    } else if (member.quarantine.inside()) {
      continue;  // it keeps what it has, and may come back with it
    }
    ExpertSet urgent(grid_.size());
    for (const size_t expert : next[i].urgent) urgent.Add(expert);
    // Somebody waits for the one that leaves.
    const uint64_t ceiling = unbounded || leaving ? 0 : options_.move_bytes_per_second;
    const bool same = member.sent.empty() ? member.settled && next[i].experts == member.held
                                          : next[i].experts == member.sent.back().experts;
    const bool more_urgent = !Minus(urgent, member.urgent_sent).empty();
    const bool loads = !Minus(next[i].experts, member.held).empty();
    if (same && !(more_urgent && loads) && !(loads && ceiling != member.ceiling_sent)) continue;
    if (member.sent.size() >= kMaxUnanswered) continue;
    if (!more_urgent && !member.sent.empty() && now - member.hold_sent < options_.hold_every) {
      continue;
    }
    v1::Hold hold;
    hold.set_number(++member.hold_number);
    RangeWriter ranges(grid_, hold);
    for (const size_t expert : next[i].urgent) ranges.Add(expert);
    hold.set_urgent_entries(hold.experts_size());
    ranges.Close();
    Minus(next[i].experts, urgent).ForEach([&](size_t expert) { ranges.Add(expert); });
    hold.set_max_bytes_per_second(ceiling);
    member.sent.push_back({hold.number(), std::move(next[i].experts)});
    member.hold_sent = now;
    member.urgent_sent = std::move(urgent);
    member.ceiling_sent = ceiling;
    holds.emplace_back(member.session, std::move(hold));
  }
  return holds;
}

std::vector<size_t> PoolPlanner::OnlyHeldBy(const Roster& roster, WorkerId worker) const {
  const auto found = roster.find(worker);
  if (found == roster.end()) return {};
  ExpertSet only = found->second.held;
  for (const auto& [id, member] : roster) {
    if (id != worker && member.counts()) only.RemoveAll(member.Certain());
  }
  std::vector<size_t> experts;
  only.ForEach([&](size_t i) { experts.push_back(i); });
  return experts;
}

std::vector<int> PoolPlanner::Holders(const Roster& roster) const {
  std::vector<int> holders(grid_.size(), 0);
  for (const auto& [id, member] : roster) {
    if (member.quarantine.inside()) continue;
    member.held.ForEach([&](size_t i) { ++holders[i]; });
  }
  return holders;
}

}  // namespace sheaf
