// Prints what a sparse indexer of GLM-5.1's dimensions (32 heads of 128) costs one layer: the
// scores of one token and of a prefill chunk over contexts of several lengths, as a share of the
// multiply-adds that the machine can do, measured in the same run; and the choice of 2048
// positions.
//
//   index_scores_bench [threads] [seconds per case]

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/attention/index_scores.h"
#include "kernels/attention/top_positions.h"
#include "kernels/machine/machine_limits_bench.h"
#include "kernels/simd/cpu_target.h"

namespace sheaf::kernels {
namespace {

constexpr int kHeads = 32;
constexpr int kDim = 128;

void RunCase(ThreadPool& pool, KvFormat format, int context, int tokens, double budget_s) {
  IndexKeyPool keys = {.format = format, .dim = kDim};
  const int blocks = (context + keys.block_size - 1) / keys.block_size;
  const BenchMemory memory(blocks * keys.block_bytes());
  keys.data = memory.data();
  std::vector<int32_t> table(blocks);
  for (int i = 0; i < blocks; ++i) table[i] = blocks - 1 - i;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> key(kDim), q(static_cast<size_t>(tokens) * kHeads * kDim);
  std::vector<float> weights(static_cast<size_t>(tokens) * kHeads);
  std::vector<float> scores(static_cast<size_t>(tokens) * context);
  for (float& x : q) x = normal(random);
  for (float& x : weights) x = normal(random);
  for (int p = 0; p < context; ++p) {
    for (float& x : key) x = normal(random);
    StoreIndexKey(keys, table.data(), p, key.data());
  }
  std::vector<IndexQuery> queries;
  for (int t = 0; t < tokens; ++t) {
    queries.push_back({table.data(), context, q.data() + t * kHeads * kDim,
                       weights.data() + t * kHeads,
                       scores.data() + static_cast<size_t>(t) * context});
  }
  const double peak = FloatPeak(pool);
  const double seconds =
      MedianSeconds([&](int) { IndexScores(pool, keys, kHeads, 0.088388f, queries); }, budget_s);
  const double products = 1e-9 * tokens * static_cast<double>(context) * kHeads * kDim;
  std::printf("%-9s context %6d, tokens %2d: %8.3f ms a token, %7.1f GFLOP/s, %.2f of %.1f G",
              std::string(KvFormatName(format)).c_str(), context, tokens, 1e3 * seconds / tokens,
              2 * products / seconds, products / seconds / peak, peak);
  if (context >= 2048) {
    std::vector<int32_t> positions(2048);
    const double top = MedianSeconds(
        [&](int) { TopPositions(scores.data(), context, 2048, positions.data()); }, budget_s / 4);
    std::printf("; best 2048: %.3f ms", 1e3 * top);
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace
}  // namespace sheaf::kernels

int main(int argc, char** argv) {
  using namespace sheaf::kernels;
  sheaf::ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 2);
  const double budget_s = argc > 2 ? std::atof(argv[2]) : 0.3;
  std::printf("%d threads, %s\n", pool.num_threads(), ActiveCpuTarget().c_str());
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kFp8E4M3}) {
    for (const int context : {2048, 8192, 32768, 131072}) {
      RunCase(pool, format, context, 1, budget_s);
    }
  }
  RunCase(pool, KvFormat::kBF16, 8192, 8, budget_s);
  return 0;
}
