#include "coordinator/moves.h"

#include <algorithm>
#include <limits>

namespace sheaf {
namespace {

struct Coverage {
  std::vector<int> wanted;    // workers that should hold it
  std::vector<int> reliable;  // of those, who holds it and is certain to keep it
  std::vector<int> certain;   // anybody that counts, holds it and is certain to keep it
};

Coverage CoverageOf(size_t grid_size, std::span<const MoveWorker> workers) {
  Coverage coverage;
  coverage.wanted.assign(grid_size, 0);
  coverage.reliable.assign(grid_size, 0);
  coverage.certain.assign(grid_size, 0);
  for (const MoveWorker& w : workers) {
    if (!w.counts) continue;
    w.target->ForEach([&](size_t i) { ++coverage.wanted[i]; });
    const ExpertSet keeps = Both(*w.held, *w.certain);
    keeps.ForEach([&](size_t i) { ++coverage.certain[i]; });
    Both(keeps, *w.target).ForEach([&](size_t i) { ++coverage.reliable[i]; });
  }
  return coverage;
}

NextHold Next(const MoveWorker& w, const Coverage& coverage, const ExpertSet& waited,
              std::span<const size_t> waited_for) {
  NextHold next;
  next.experts = Both(*w.held, *w.target);
  const int64_t slots = w.slots > 0 ? w.slots : std::numeric_limits<int64_t>::max();
  int64_t used = next.experts.count();

  ExpertSet fresh = Minus(*w.target, *w.held);
  // What it should drop but others are not ready for.
  std::vector<size_t> kept;
  std::vector<size_t> spare_ones;  // others have some, not all that are wanted
  Minus(*w.held, *w.target).ForEach([&](size_t i) {
    if (coverage.reliable[i] == 0) {
      kept.push_back(i);
    } else if (coverage.reliable[i] < coverage.wanted[i]) {
      spare_ones.push_back(i);
    }
  });
  for (const size_t i : kept) next.experts.Add(i);
  used += static_cast<int64_t>(kept.size());
  const int64_t room_for_spare =
      slots - used - std::min(fresh.count(), std::max<int64_t>(0, slots - used));
  for (size_t n = 0; n < spare_ones.size() && static_cast<int64_t>(n) < room_for_spare; ++n) {
    next.experts.Add(spare_ones[n]);
    ++used;
  }

  const auto load = [&](size_t i, bool urgent) {
    if (used >= slots) {
      ++next.postponed;
      return;
    }
    ++used;
    next.experts.Add(i);
    if (urgent) next.urgent.push_back(i);
  };
  for (const size_t i : waited_for) {
    if (!fresh.Has(i)) continue;
    fresh.Remove(i);
    load(i, true);
  }
  ExpertSet orphans(coverage.wanted.size());
  fresh.ForEach([&](size_t i) {
    if (coverage.certain[i] == 0 || waited.Has(i)) orphans.Add(i);
  });
  fresh.RemoveAll(orphans);
  orphans.ForEach([&](size_t i) { load(i, true); });
  fresh.ForEach([&](size_t i) { load(i, false); });
  return next;
}

}  // namespace

std::vector<NextHold> PlanMoves(size_t grid_size, std::span<const MoveWorker> workers,
                                std::span<const size_t> waited_for) {
  const Coverage coverage = CoverageOf(grid_size, workers);
  ExpertSet waited(grid_size);
  for (const size_t i : waited_for) waited.Add(i);
  std::vector<NextHold> next;
  next.reserve(workers.size());
  for (const MoveWorker& w : workers) next.push_back(Next(w, coverage, waited, waited_for));
  return next;
}

}  // namespace sheaf
