// Time of a plan and of the moves after it, for pools of the sizes that matter. Prints figures.

#include <benchmark/benchmark.h>

#include <random>

#include "coordinator/moves.h"
#include "coordinator/placement_plan.h"

namespace sheaf {
namespace {

constexpr ExpertGrid kGrid{92, 3, 120};

struct Pool {
  PlanRequest request;
  std::vector<ExpertSet> held;
  std::vector<double> load;

  Pool(int workers, double replicas, bool loaded) {
    request.grid = kGrid;
    request.replicas = replicas;
    request.workers.resize(static_cast<size_t>(workers));
    held.assign(request.workers.size(), ExpertSet(kGrid.size()));
    std::mt19937 random(1);
    if (loaded) {
      for (size_t i = 0; i < kGrid.size(); ++i) {
        load.push_back(std::exponential_distribution<double>(0.001)(random));
      }
      request.load = load;
    }
  }
  void Hold(const PlacementPlan& plan) {
    held = plan.targets;
    for (size_t w = 0; w < held.size(); ++w) request.workers[w].held = &held[w];
  }
};

void Fresh(benchmark::State& state) {
  const Pool pool(static_cast<int>(state.range(0)), static_cast<double>(state.range(1)),
                  state.range(2) != 0);
  for (auto _ : state) benchmark::DoNotOptimize(PlanPlacement(pool.request));
}
BENCHMARK(Fresh)
    ->ArgNames({"workers", "replicas", "load"})
    ->Args({5, 2, 1})
    ->Args({64, 1, 0})
    ->Args({64, 2, 0})
    ->Args({64, 2, 1})
    ->Unit(benchmark::kMillisecond);

// One of the workers is lost.
void Loss(benchmark::State& state) {
  Pool pool(64, static_cast<double>(state.range(0)), true);
  pool.Hold(PlanPlacement(pool.request));
  pool.request.workers[10].takes = false;
  for (auto _ : state) benchmark::DoNotOptimize(PlanPlacement(pool.request));
}
BENCHMARK(Loss)->ArgName("replicas")->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond);

void Moves(benchmark::State& state) {
  Pool pool(64, 2, true);
  pool.Hold(PlanPlacement(pool.request));
  std::vector<MoveWorker> workers;
  for (const ExpertSet& set : pool.held) workers.push_back({true, 0, &set, &set, &set});
  for (auto _ : state) benchmark::DoNotOptimize(PlanMoves(kGrid.size(), workers, {}));
}
BENCHMARK(Moves)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sheaf

BENCHMARK_MAIN();
