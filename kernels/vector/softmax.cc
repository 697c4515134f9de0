#include "kernels/vector/softmax.h"

#include <algorithm>

namespace sheaf::kernels {
namespace {

constexpr size_t kStretch = 128;

}  // namespace

std::vector<int32_t> TopIndexes(const float* x, size_t count, int n) {
  const auto better = [x](int32_t a, int32_t b) { return x[a] > x[b] || (x[a] == x[b] && a < b); };
  const size_t wanted = std::min(count, static_cast<size_t>(std::max(n, 0)));
  // A heap whose front is the worst of the best: most elements cost one comparison.
  std::vector<int32_t> best;
  if (wanted == 0) return best;
  best.reserve(wanted);
  float worst = 0;  // x of the front, once the heap is full
  for (size_t i = 0; i < count; ++i) {
    // Whole stretches without a newcomer, which is nearly all of a vocabulary.
    while (i % kStretch == 0 && best.size() == wanted && i + kStretch <= count &&
           !(MaxOf(x + i, kStretch) > worst)) {
      i += kStretch;
    }
    if (i == count) break;
    const int32_t candidate = static_cast<int32_t>(i);
    if (best.size() == wanted) {
      // Later indexes lose ties, so only a larger value gets in.
      if (!(x[i] > worst)) continue;
      std::pop_heap(best.begin(), best.end(), better);
      best.back() = candidate;
    } else {
      if (x[i] != x[i]) continue;
      best.push_back(candidate);
    }
    std::push_heap(best.begin(), best.end(), better);
    worst = x[best.front()];
  }
  std::sort(best.begin(), best.end(), better);
  return best;
}

}  // namespace sheaf::kernels
