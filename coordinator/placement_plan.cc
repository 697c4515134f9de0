#include "coordinator/placement_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace sheaf {
namespace {

constexpr int64_t kNoBound = std::numeric_limits<int64_t>::max() / 4;
// Speeds are trusted within this factor of the mean: a measurement of one slow second must not
// empty a worker.
constexpr double kMaxSpeedRatio = 4;
// An expert that has its further copy already keeps it against one a little hotter.
constexpr double kKeepHot = 1.25;
// A layer's loads mean something from so many pairs an expert on.
constexpr double kMinPairsPerExpert = 4;

bool In(const ExpertSet* set, size_t i) { return set != nullptr && set->Has(i); }

std::vector<double> SpeedsOf(const std::vector<PlanWorker>& workers) {
  double sum = 0;
  int known = 0;
  for (const PlanWorker& w : workers) {
    if (!w.takes || !(w.seconds_per_unit > 0)) continue;
    sum += 1 / w.seconds_per_unit;
    ++known;
  }
  std::vector<double> speeds(workers.size(), 1.0);
  if (known == 0) return speeds;
  const double mean = sum / known;
  for (size_t i = 0; i < workers.size(); ++i) {
    if (!(workers[i].seconds_per_unit > 0)) continue;
    speeds[i] =
        std::clamp(1 / workers[i].seconds_per_unit / mean, 1 / kMaxSpeedRatio, kMaxSpeedRatio);
    // Measurements differ by a few per cent for no reason; that must not cost moves.
    speeds[i] = std::round(speeds[i] * 8) / 8;
  }
  return speeds;
}

class Planner {
 public:
  explicit Planner(const PlanRequest& request)
      : request_(request),
        workers_(request.workers),
        grid_(request.grid),
        num_workers_(static_cast<int>(request.workers.size())),
        speed_(SpeedsOf(request.workers)) {
    for (int w = 0; w < num_workers_; ++w) {
      if (At(w).takes) takers_.push_back(w);
      const uint64_t bytes = At(w).memory_bytes;
      slots_.push_back(bytes == 0 ? kNoBound
                                  : static_cast<int64_t>(std::min<uint64_t>(
                                        bytes / std::max<uint64_t>(1, request.expert_bytes),
                                        static_cast<uint64_t>(kNoBound))));
    }
    free_ = slots_;
    targets_.assign(request.workers.size(), ExpertSet(grid_.size()));
    const size_t cells = static_cast<size_t>(grid_.moe_layers()) * request.workers.size();
    load_.assign(cells, 0);
    count_.assign(cells, 0);
    evict_from_.assign(request.workers.size(), 0);
  }

  PlacementPlan Plan() {
    PlacementPlan plan;
    if (takers_.empty()) {
      plan.unplaced = static_cast<int64_t>(grid_.size());
      plan.targets = std::move(targets_);
      return plan;
    }
    FindCandidates();
    DecideCopies();
    have_.assign(grid_.size(), 0);
    Keep();
    for (int layer = 0; layer < grid_.moe_layers(); ++layer) PlaceFirst(layer);
    for (int copy = 1; copy < max_copies_; ++copy) {
      for (int layer = 0; layer < grid_.moe_layers(); ++layer) PlaceFurther(layer, copy);
    }
    for (int layer = 0; layer < grid_.moe_layers(); ++layer) Balance(layer);
    for (size_t i = 0; i < grid_.size(); ++i) {
      plan.unplaced += have_[i] == 0;
      if (have_[i] > 0) plan.missing_copies += copies_[i] - have_[i];
    }
    for (int w = 0; w < num_workers_; ++w) {
      const ExpertSet& target = targets_[static_cast<size_t>(w)];
      plan.moves += At(w).held == nullptr ? target.count() : Minus(target, *At(w).held).count();
    }
    plan.targets = std::move(targets_);
    return plan;
  }

  int64_t Adopt(std::span<const size_t> experts, std::vector<ExpertSet>& targets) {
    targets_ = std::move(targets);
    weight_.assign(grid_.size(), 1.0);
    have_.assign(grid_.size(), 0);
    for (int w = 0; w < num_workers_; ++w) {
      targets_[static_cast<size_t>(w)].ForEach([&](size_t i) {
        ++have_[i];
        --free_[static_cast<size_t>(w)];
        Load(LayerOf(i), w) += 1;
      });
    }
    int64_t unplaced = 0;
    for (const size_t i : experts) {
      if (have_[i] > 0) continue;
      const int w = MakeRoomFor(i);
      if (w < 0) {
        ++unplaced;
      } else {
        Give(i, w);
      }
    }
    targets = std::move(targets_);
    return unplaced;
  }

 private:
  const PlanWorker& At(int w) const { return workers_[static_cast<size_t>(w)]; }
  int LayerOf(size_t i) const {
    return static_cast<int>(i / static_cast<size_t>(grid_.num_experts));
  }
  size_t First(int layer) const {
    return static_cast<size_t>(layer) * static_cast<size_t>(grid_.num_experts);
  }
  size_t Cell(int layer, int w) const {
    return static_cast<size_t>(layer) * workers_.size() + static_cast<size_t>(w);
  }
  double& Load(int layer, int w) { return load_[Cell(layer, w)]; }
  double Relative(int layer, int w) const {
    return load_[Cell(layer, w)] / speed_[static_cast<size_t>(w)];
  }
  // Time of w in this layer if it got `weight` more.
  double With(int layer, int w, double weight) const {
    return (load_[Cell(layer, w)] + weight) / speed_[static_cast<size_t>(w)];
  }

  int64_t Total(int w) const {
    return slots_[static_cast<size_t>(w)] - free_[static_cast<size_t>(w)];
  }

  // Memory is shared out evenly over layers, so that the first ones do not take it all.
  bool HasRoomInLayer(int layer, int w) const {
    const int64_t slots = slots_[static_cast<size_t>(w)];
    if (free_[static_cast<size_t>(w)] <= 0) return false;
    if (slots >= kNoBound) return true;
    const int64_t layers = grid_.moe_layers();
    const int64_t share = slots * (layer + 1) / layers - slots * layer / layers;
    return count_[Cell(layer, w)] < share;
  }
  bool MayHold(int w, size_t i) const {
    return !targets_[static_cast<size_t>(w)].Has(i) && !In(At(w).refused, i);
  }

  void Give(size_t i, int w) {
    targets_[static_cast<size_t>(w)].Add(i);
    ++have_[i];
    --free_[static_cast<size_t>(w)];
    Load(LayerOf(i), w) += weight_[i];
    ++count_[Cell(LayerOf(i), w)];
  }
  void Take(size_t i, int w) {
    targets_[static_cast<size_t>(w)].Remove(i);
    --have_[i];
    ++free_[static_cast<size_t>(w)];
    Load(LayerOf(i), w) -= weight_[i];
    --count_[Cell(LayerOf(i), w)];
  }

  // Who holds an expert, or was to hold it: [begin_[i], begin_[i + 1]) of candidates_.
  void FindCandidates() {
    std::vector<ExpertSet> near(workers_.size());
    std::vector<uint32_t> counts(grid_.size() + 1, 0);
    for (const int w : takers_) {
      ExpertSet& set = near[static_cast<size_t>(w)];
      set = ExpertSet(grid_.size());
      if (At(w).held != nullptr) set.AddAll(*At(w).held);
      if (At(w).wanted != nullptr) set.AddAll(*At(w).wanted);
      if (At(w).refused != nullptr) set.RemoveAll(*At(w).refused);
      set.ForEach([&](size_t i) { ++counts[i + 1]; });
    }
    std::partial_sum(counts.begin(), counts.end(), counts.begin());
    begin_ = counts;
    candidates_.resize(begin_.back());
    for (const int w : takers_) {
      near[static_cast<size_t>(w)].ForEach([&](size_t i) { candidates_[counts[i]++] = w; });
    }
  }

  void DecideCopies() {
    const double replicas = std::clamp(request_.replicas, 1.0, static_cast<double>(takers_.size()));
    const int base = static_cast<int>(replicas);
    copies_.assign(grid_.size(), base);
    max_copies_ = base;
    heat_.assign(grid_.size(), 1.0);
    for (int layer = 0; layer < grid_.moe_layers(); ++layer) {
      if (request_.load.size() != grid_.size()) break;
      const auto load = request_.load.subspan(First(layer), static_cast<size_t>(grid_.num_experts));
      const double sum = std::accumulate(load.begin(), load.end(), 0.0);
      if (sum < kMinPairsPerExpert * grid_.num_experts) continue;
      for (size_t e = 0; e < load.size(); ++e) {
        heat_[First(layer) + e] = load[e] * grid_.num_experts / sum;
      }
    }
    const auto extra =
        static_cast<size_t>(std::llround((replicas - base) * static_cast<double>(grid_.size())));
    if (extra > 0) {
      max_copies_ = base + 1;
      std::vector<double> key(grid_.size());
      std::vector<uint32_t> order(grid_.size());
      for (size_t i = 0; i < grid_.size(); ++i) {
        order[i] = static_cast<uint32_t>(i);
        const bool has = begin_[i + 1] - begin_[i] > static_cast<uint32_t>(base);
        key[i] = heat_[i] * (has ? kKeepHot : 1);
      }
      // Of equally hot ones the same experts of every layer, so that layers stay alike.
      std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        if (key[a] != key[b]) return key[a] > key[b];
        const int expert_a = grid_.ExpertOf(a);
        const int expert_b = grid_.ExpertOf(b);
        return expert_a != expert_b ? expert_a < expert_b : a < b;
      });
      for (size_t n = 0; n < extra; ++n) ++copies_[order[n]];
    }
    weight_.resize(grid_.size());
    for (size_t i = 0; i < grid_.size(); ++i) weight_[i] = (0.5 + 0.5 * heat_[i]) / copies_[i];
  }

  // First copies of all experts before second ones: memory may not do for both.
  void Keep() {
    for (int copy = 0; copy < max_copies_; ++copy) {
      for (size_t i = 0; i < grid_.size(); ++i) {
        if (copies_[i] <= copy || have_[i] < copy) continue;
        int best = -1;
        bool best_held = false;
        for (uint32_t at = begin_[i]; at < begin_[i + 1]; ++at) {
          const int w = candidates_[at];
          if (!MayHold(w, i) || free_[static_cast<size_t>(w)] <= 0) continue;
          const bool held = In(At(w).held, i);
          if (best < 0 || (held && !best_held) ||
              (held == best_held && Relative(LayerOf(i), w) < Relative(LayerOf(i), best))) {
            best = w;
            best_held = held;
          }
        }
        if (best >= 0) Give(i, best);
      }
    }
  }

  // The taker that has least with one more; ties from `turn` on. -1: none has room.
  int LeastLoaded(size_t i, int turn, bool by_layer) const {
    const int layer = LayerOf(i);
    const int n = static_cast<int>(takers_.size());
    int best = -1;
    double least = 0;
    for (int k = 0; k < n; ++k) {
      const int w = takers_[static_cast<size_t>((turn + k) % n)];
      if (!MayHold(w, i)) continue;
      if (by_layer ? !HasRoomInLayer(layer, w) : free_[static_cast<size_t>(w)] <= 0) continue;
      const double time = With(layer, w, weight_[i]);
      if (best < 0 || time < least - 1e-9) {
        best = w;
        least = time;
      }
    }
    return best;
  }

  // Where a first copy goes when nobody has room: a further copy of another expert makes way.
  int MakeRoomFor(size_t i) {
    int w = LeastLoaded(i, 0, false);
    if (w >= 0) return w;
    for (const int full : takers_) {
      if (!MayHold(full, i)) continue;
      size_t& from = evict_from_[static_cast<size_t>(full)];
      for (; from < grid_.size(); ++from) {
        if (have_[from] < 2 || !targets_[static_cast<size_t>(full)].Has(from)) continue;
        Take(from, full);
        return full;
      }
    }
    return -1;
  }

  void PlaceFirst(int layer) {
    std::vector<size_t> open;
    bool alike = true;
    for (size_t i = First(layer); i < First(layer + 1); ++i) {
      if (have_[i] == 0) open.push_back(i);
      alike = alike && weight_[i] == weight_[First(layer)];
    }
    if (open.empty()) return;
    const int n = static_cast<int>(takers_.size());
    // Those that get one more start where those of the layer before ended.
    const int turn = static_cast<int>(int64_t{layer} * (grid_.num_experts % n) % n);
    if (!alike) {
      std::stable_sort(open.begin(), open.end(),
                       [&](size_t a, size_t b) { return weight_[a] > weight_[b]; });
      for (const size_t i : open) PlaceFirstCopy(i, turn);
      return;
    }
    // How many each gets, then ranges in the order of the workers.
    std::vector<int64_t> quota(workers_.size(), 0);
    std::vector<double> load;
    for (int w = 0; w < num_workers_; ++w) load.push_back(Load(layer, w));
    const double weight = weight_[First(layer)];
    for (size_t n_open = 0; n_open < open.size(); ++n_open) {
      int best = -1;
      double least = 0;
      for (int k = 0; k < n; ++k) {
        const int w = takers_[static_cast<size_t>((turn + k) % n)];
        const auto at = static_cast<size_t>(w);
        if (free_[at] <= quota[at]) continue;
        if (slots_[at] < kNoBound) {
          const int64_t layers = grid_.moe_layers();
          const int64_t share = slots_[at] * (layer + 1) / layers - slots_[at] * layer / layers;
          if (count_[Cell(layer, w)] + quota[at] >= share) continue;
        }
        const double time = (load[at] + weight) / speed_[at];
        if (best < 0 || time < least - 1e-9) {
          best = w;
          least = time;
        }
      }
      if (best < 0) break;
      ++quota[static_cast<size_t>(best)];
      load[static_cast<size_t>(best)] += weight;
    }
    std::vector<size_t> left;
    size_t next = 0;
    for (const int w : takers_) {
      for (int64_t k = 0; k < quota[static_cast<size_t>(w)] && next < open.size(); ++next) {
        if (!MayHold(w, open[next])) {
          left.push_back(open[next]);
          continue;
        }
        Give(open[next], w);
        ++k;
      }
    }
    left.insert(left.end(), open.begin() + static_cast<ptrdiff_t>(next), open.end());
    for (const size_t i : left) PlaceFirstCopy(i, turn);
  }

  void PlaceFirstCopy(size_t i, int turn) {
    int w = LeastLoaded(i, turn, true);
    if (w < 0) w = MakeRoomFor(i);
    if (w >= 0) Give(i, w);
  }

  void PlaceFurther(int layer, int copy) {
    for (size_t i = First(layer); i < First(layer + 1); ++i) {
      if (copies_[i] <= copy || have_[i] != copy) continue;
      // Ties start at a place that changes, so that two workers share few experts and the work of
      // a lost one spreads over many.
      const int turn = (grid_.ExpertOf(i) + layer + copy) % static_cast<int>(takers_.size());
      int w = LeastLoaded(i, turn, true);
      if (w < 0) w = LeastLoaded(i, turn, false);
      if (w >= 0) Give(i, w);
    }
  }

  void Balance(int layer) {
    double heaviest = 0;
    for (size_t i = First(layer); i < First(layer + 1); ++i) {
      heaviest = std::max(heaviest, weight_[i]);
    }
    bool started = false;
    for (int moved = 0; moved < 2 * grid_.num_experts * max_copies_; ++moved) {
      // Of equals the one that has most in all layers: so layers take turns, and whole slices are
      // even.
      int from = takers_.front();
      for (const int w : takers_) {
        const double more = Relative(layer, w) - Relative(layer, from);
        if (more > 1e-9 || (more > -1e-9 && Total(w) > Total(from))) from = w;
      }
      std::vector<int> others;
      for (const int w : takers_) {
        if (w != from && HasRoomInLayer(layer, w)) others.push_back(w);
      }
      std::sort(others.begin(), others.end(), [&](int a, int b) {
        const double left = Relative(layer, a);
        const double right = Relative(layer, b);
        if (left != right) return left < right;
        return Total(a) != Total(b) ? Total(a) < Total(b) : a < b;
      });
      if (others.empty()) return;
      const double gap = Relative(layer, from) - Relative(layer, others.front());
      const double slack = std::max(heaviest / speed_[static_cast<size_t>(from)],
                                    2 * request_.tolerance * Relative(layer, from));
      if (!started && gap <= slack + 1e-9) return;
      started = true;
      if (!MoveOne(layer, from, others)) return;
    }
  }

  // Moves the expert of `from` that costs least and helps most.
  bool MoveOne(int layer, int from, const std::vector<int>& others) {
    const double now = Relative(layer, from);
    for (const int to : others) {
      size_t best = grid_.size();
      int best_cost = 0;
      for (size_t i = First(layer); i < First(layer + 1); ++i) {
        if (!targets_[static_cast<size_t>(from)].Has(i) || !MayHold(to, i)) continue;
        const double gain = 0.25 * weight_[i] / speed_[static_cast<size_t>(from)];
        if (With(layer, to, weight_[i]) > now - gain + 1e-9) continue;
        // What `from` has not loaded yet, or `to` has already, costs nothing.
        const int cost = (In(At(from).held, i) ? 1 : 0) + (In(At(to).held, i) ? 0 : 1);
        if (best == grid_.size() || cost < best_cost ||
            (cost == best_cost && weight_[i] > weight_[best])) {
          best = i;
          best_cost = cost;
        }
      }
      if (best == grid_.size()) continue;
      Take(best, from);
      Give(best, to);
      return true;
    }
    return false;
  }

  const PlanRequest& request_;
  const std::vector<PlanWorker>& workers_;
  const ExpertGrid grid_;
  const int num_workers_;
  const std::vector<double> speed_;
  std::vector<int> takers_;     // ascending
  std::vector<int64_t> slots_;  // experts that fit into memory
  std::vector<int64_t> free_;
  std::vector<ExpertSet> targets_;
  std::vector<double> load_;    // [layer][worker]
  std::vector<int64_t> count_;  // [layer][worker]
  std::vector<uint32_t> begin_;
  std::vector<int> candidates_;
  std::vector<int> copies_;         // wanted
  std::vector<int> have_;           // placed
  std::vector<double> heat_;        // 1 = the layer's mean
  std::vector<double> weight_;      // of one copy
  std::vector<size_t> evict_from_;  // nothing to evict before this index
  int max_copies_ = 1;
};

}  // namespace

PlacementPlan PlanPlacement(const PlanRequest& request) { return Planner(request).Plan(); }

int64_t AdoptExperts(const PlanRequest& request, std::span<const size_t> experts,
                     std::vector<ExpertSet>& targets) {
  return Planner(request).Adopt(experts, targets);
}

}  // namespace sheaf
