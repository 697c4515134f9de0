// Prints what absorbed latent attention costs at GLM-5.1's dimensions (64 heads over latents of 512
// and rotated keys of 64, in bf16): one layer of one token that attends to 2048 positions of a long
// context, and of a batch and a prefill chunk; as a share of the multiply-adds that the machine can
// do, measured in the same run.
//
//   latent_attention_bench [threads] [seconds per case]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/attention/latent_attention.h"
#include "kernels/machine/machine_limits_bench.h"
#include "kernels/simd/cpu_target.h"

namespace sheaf::kernels {
namespace {

constexpr int kHeads = 64;
constexpr int kLatentDim = 512;
constexpr int kRopeDim = 64;

void RunCase(ThreadPool& pool, KvFormat format, int context, int num_positions, int tokens,
             double budget_s) {
  LatentPool kv = {.format = format, .latent_dim = kLatentDim, .rope_dim = kRopeDim};
  const int blocks = (context + kv.block_size - 1) / kv.block_size;
  const BenchMemory memory(blocks * kv.block_bytes());
  kv.data = memory.data();
  std::vector<int32_t> table(blocks);
  for (int i = 0; i < blocks; ++i) table[i] = blocks - 1 - i;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> latent(kLatentDim), rope_key(kRopeDim);
  for (int p = 0; p < context; ++p) {
    if (p < 64) {
      for (float& x : latent) x = normal(random);
      for (float& x : rope_key) x = normal(random);
    }
    StoreLatentToken(kv, table.data(), p, latent.data(), rope_key.data());
  }
  std::vector<float> q(static_cast<size_t>(tokens) * kHeads * (kLatentDim + kRopeDim));
  for (float& x : q) x = normal(random);
  std::vector<float> out(static_cast<size_t>(tokens) * kHeads * kLatentDim);
  // Other positions for every token and repetition: a list that was just read is in the caches.
  constexpr int kLists = 16;
  std::vector<std::vector<int32_t>> lists(static_cast<size_t>(tokens) * kLists);
  std::vector<int32_t> all(context);
  std::iota(all.begin(), all.end(), 0);
  for (auto& list : lists) {
    std::sample(all.begin(), all.end(), std::back_inserter(list), num_positions, random);
  }
  const double peak = FloatPeak(pool);
  const double seconds = MedianSeconds(
      [&](int repetition) {
        std::vector<LatentQuery> queries;
        for (int t = 0; t < tokens; ++t) {
          queries.push_back({table.data(), lists[(repetition % kLists) * tokens + t].data(),
                             num_positions, q.data() + t * kHeads * (kLatentDim + kRopeDim),
                             out.data() + t * kHeads * kLatentDim});
        }
        LatentAttention(pool, kv, kHeads, 0.0625f, queries);
      },
      budget_s);
  const double products =
      1e-9 * tokens * kHeads * static_cast<double>(num_positions) * (2 * kLatentDim + kRopeDim);
  std::printf("%-9s context %6d, positions %5d, tokens %3d: %8.3f ms a token, %7.1f GFLOP/s, %.2f",
              std::string(KvFormatName(format)).c_str(), context, num_positions, tokens,
              1e3 * seconds / tokens, 2 * products / seconds, products / seconds / peak);
  std::printf(" of %.1f G multiply-adds/s\n", peak);
  std::fflush(stdout);
}

}  // namespace
}  // namespace sheaf::kernels

int main(int argc, char** argv) {
  using namespace sheaf::kernels;
  sheaf::ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 2);
  const double budget_s = argc > 2 ? std::atof(argv[2]) : 0.5;
  std::printf("%d threads, %s\n", pool.num_threads(), ActiveCpuTarget().c_str());
  for (const int context : {8192, 131072}) {
    for (const int tokens : {1, 8}) RunCase(pool, KvFormat::kBF16, context, 2048, tokens, budget_s);
  }
  RunCase(pool, KvFormat::kFp8E4M3, 8192, 2048, 1, budget_s);
  return 0;
}
