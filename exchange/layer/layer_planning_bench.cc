// What a layer's planning costs a step: Begin, hand out the asks, take the answers, End; no I/O.
// 64 workers, 92 layers, 120 experts, each held by 1 or 2 workers.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "exchange/layer/layer_machine.h"

namespace sheaf {
namespace {

constexpr int kWorkers = 64;
constexpr int kLayers = 92;
constexpr int kExperts = 120;
constexpr int kTopK = 8;

void PlanLayer(benchmark::State& state) {
  const int tokens = static_cast<int>(state.range(0));
  const int replicas = static_cast<int>(state.range(1));
  ExpertTable table(kLayers, 3, kExperts);
  for (int worker = 0; worker < kWorkers; ++worker) {
    Holdings holdings(kLayers, kExperts);
    for (int layer = 3; layer < kLayers; ++layer) {
      for (int expert = 0; expert < kExperts; ++expert) {
        for (int copy = 0; copy < replicas; ++copy) {
          if ((expert * 7 + layer + copy * 31) % kWorkers == worker)
            holdings.Add(LayerId(layer), ExpertId(expert));
        }
      }
    }
    table.SetHoldings(WorkerId(worker), holdings);
  }
  AnswerTimes times;
  LayerMachine machine(table, times, {});
  std::mt19937_64 random(1);
  std::vector<std::vector<int32_t>> routes(kLayers);
  std::vector<int32_t> experts(kExperts);
  std::iota(experts.begin(), experts.end(), 0);
  for (auto& ids : routes) {
    for (int token = 0; token < tokens; ++token) {
      std::shuffle(experts.begin(), experts.end(), random);
      ids.insert(ids.end(), experts.begin(), experts.begin() + kTopK);
      std::sort(ids.end() - kTopK, ids.end());
    }
  }
  TimePoint now{};
  int layer = 3;
  int64_t asks = 0;
  for (auto _ : state) {
    machine.Begin({LayerId(layer), tokens, kTopK, routes[size_t(layer)].data()}, now).IgnoreError();
    Ask ask;
    std::vector<std::pair<WorkerId, AskId>> sent;
    while (machine.NextAsk(ask)) {
      machine.Sent(ask.id, now);
      sent.emplace_back(ask.worker, ask.id);
    }
    now += std::chrono::milliseconds(1);
    for (const auto& [worker, id] : sent)
      benchmark::DoNotOptimize(machine.Combine(worker, id, now));
    if (!machine.done()) state.SkipWithError("not done");
    machine.End(now);
    asks += static_cast<int64_t>(sent.size());
    layer = layer + 1 < kLayers ? layer + 1 : 3;
  }
  state.counters["asks"] = double(asks) / double(state.iterations());
}
BENCHMARK(PlanLayer)->ArgNames({"tokens", "replicas"})->Args({1, 1})->Args({1, 2})->Args({32, 1})
    ->Args({32, 2})->Args({512, 2})->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sheaf

BENCHMARK_MAIN();
