#include "exchange/ordered_sum.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/experts/expert_gate.h"
#include "kernels/vector/rms_norm.h"

namespace sheaf {
namespace {

constexpr int kColumns = 1024;
// Below this many multiply-adds waking the pool costs more than it saves.
constexpr int64_t kWorthThreads = 256 * 1024;

void SumBlock(int top_k, const float* weights, const float* const* vectors, int begin, int count,
              float* sum) {
  std::memset(sum + begin, 0, sizeof(float) * static_cast<size_t>(count));
  for (int k = 0; k < top_k; ++k) {
    kernels::AddWeighted(vectors[k] + begin, weights[k], static_cast<size_t>(count), sum + begin);
  }
}

}  // namespace

void SumInExpertOrder(ThreadPool& pool, int num_tokens, int top_k, int hidden, const float* weights,
                      const float* const* vectors, float* sum, const float* last) {
  const auto run = [&](int64_t token, int begin, int count) {
    const int64_t at = token * hidden;
    SumBlock(top_k, weights + token * top_k, vectors + token * top_k, begin, count, sum + at);
    if (last != nullptr) kernels::AddInto(last + at + begin, count, sum + at + begin);
  };
  if (int64_t{num_tokens} * top_k * hidden < kWorthThreads) {
    for (int token = 0; token < num_tokens; ++token) run(token, 0, hidden);
    return;
  }
  const int blocks = (hidden + kColumns - 1) / kColumns;
  const ItemCost cost = CostOfElements(int64_t{kColumns} * top_k);
  pool.ParallelFor(int64_t{num_tokens} * blocks, cost, [&](int64_t item, int) {
    const int begin = static_cast<int>(item % blocks) * kColumns;
    run(item / blocks, begin, std::min(kColumns, hidden - begin));
  });
}

}  // namespace sheaf
