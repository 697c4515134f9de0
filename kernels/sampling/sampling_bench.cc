// Prints the time of one draw over GLM-4.6's vocabulary, and of the passes it is made of.

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "kernels/sampling/sampling.h"
#include "kernels/vector/softmax.h"

namespace sheaf::kernels {
namespace {

constexpr size_t kVocabulary = 151552;

// Like a model's: a few likely tokens over a broad background.
std::vector<float> Logits() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 2.5f);
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) logit = normal(random);
  for (int i = 0; i < 20; ++i) logits[random() % kVocabulary] = 14.0f + normal(random);
  return logits;
}

void Draw(benchmark::State& state, SamplingParams params) {
  const std::vector<float> logits = Logits();
  std::vector<float> row(logits.size());
  const std::vector<TokenId> prompt(2000, 5), output(500, 7);
  for (auto _ : state) {
    row = logits;
    ++params.seed;
    benchmark::DoNotOptimize(SampleToken(row, params, {.prompt = prompt, .output = output}));
  }
}
BENCHMARK_CAPTURE(Draw, greedy, {.temperature = 0})->MinTime(0.2);
BENCHMARK_CAPTURE(Draw, temperature_1, {})->MinTime(0.2);
BENCHMARK_CAPTURE(Draw, top_p_95, {.top_p = 0.95f})->MinTime(0.2);
BENCHMARK_CAPTURE(Draw, top_k_40_top_p_95, {.top_p = 0.95f, .top_k = 40})->MinTime(0.2);
BENCHMARK_CAPTURE(Draw, penalties, {.temperature = 0, .repetition_penalty = 1.1f})->MinTime(0.2);

void BM_LogSumExp(benchmark::State& state) {
  const std::vector<float> logits = Logits();
  for (auto _ : state) benchmark::DoNotOptimize(LogSumExp(logits.data(), logits.size()));
}
BENCHMARK(BM_LogSumExp)->MinTime(0.2);

void BM_TopIndexes20(benchmark::State& state) {
  const std::vector<float> logits = Logits();
  for (auto _ : state) benchmark::DoNotOptimize(TopIndexes(logits.data(), logits.size(), 20));
}
BENCHMARK(BM_TopIndexes20)->MinTime(0.2);

}  // namespace
}  // namespace sheaf::kernels

BENCHMARK_MAIN();
