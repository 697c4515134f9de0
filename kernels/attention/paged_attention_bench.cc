// Prints what attention costs at GLM-4.6's real dimensions (96 heads over 8 key/value heads of
// 128): decode over a long context (bytes of cache read a second) and prefill (multiply-adds a
// second, of q.K and p.V together).

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "kernels/attention/paged_attention.h"

namespace sheaf::kernels {
namespace {

constexpr int kHeads = 96;
constexpr int kKvHeads = 8;
constexpr int kHeadDim = 128;

// range: format, context, new tokens, threads.
void BM_PagedAttention(benchmark::State& state) {
  const int context = static_cast<int>(state.range(1));
  const int tokens = static_cast<int>(state.range(2));
  KvPool kv = {.format = static_cast<KvFormat>(state.range(0)),
               .block_size = 16,
               .num_kv_heads = kKvHeads,
               .head_dim = kHeadDim};
  const int blocks = (context + tokens + 15) / 16;
  std::vector<uint8_t> memory(blocks * kv.block_bytes());
  kv.data = memory.data();
  std::vector<int32_t> table(blocks);
  for (int i = 0; i < blocks; ++i) table[i] = blocks - 1 - i;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> k(kKvHeads * kHeadDim), v(k.size());
  for (int p = 0; p < context + tokens; ++p) {
    if (p < 64) {
      for (float& x : k) x = normal(random);
      for (float& x : v) x = normal(random);
    }
    StoreKvToken(kv, table.data(), p, k.data(), v.data());
  }
  std::vector<float> q(static_cast<size_t>(tokens) * kHeads * kHeadDim), out(q.size());
  for (float& x : q) x = normal(random);
  const AttentionSequence sequence = {table.data(), context, tokens, q.data(), out.data()};
  ThreadPool pool(static_cast<int>(state.range(3)));
  for (auto _ : state) {
    PagedAttention(pool, kv, kHeads, 0.088388f, {&sequence, 1}, kHeads * kHeadDim,
                   kHeads * kHeadDim);
  }
  const double pairs = tokens * (context + (tokens + 1) / 2.0);
  state.counters["GB_per_s"] =
      benchmark::Counter(1e-9 * (context + tokens) * 2.0 * kKvHeads * kHeadDim *
                             KvBytes(kv.format) * state.iterations(),
                         benchmark::Counter::kIsRate);
  state.counters["Gmac_per_s"] = benchmark::Counter(
      1e-9 * pairs * kHeads * kHeadDim * 2 * state.iterations(), benchmark::Counter::kIsRate);
}
BENCHMARK(BM_PagedAttention)
    ->ArgNames({"format", "context", "tokens", "threads"})
    ->ArgsProduct({{0, 1, 2, 3}, {4096}, {1}, {1, 2}})
    ->Args({1, 0, 512, 1})
    ->Args({1, 0, 512, 2})
    ->Args({1, 4096, 512, 2})
    ->Args({2, 4096, 512, 2})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond)
    ->MinTime(0.3);

}  // namespace
}  // namespace sheaf::kernels

BENCHMARK_MAIN();
