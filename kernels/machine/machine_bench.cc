// Prints what this machine can do at most, for figures to be shares of: read bandwidth and
// two-plane multiply-adds.
//
//   machine_bench [threads] [repetitions]
//
// 3 GiB, more than any cache holds, are read in each repetition; the median and the largest are
// printed.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/machine/machine_limits_bench.h"

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int repetitions = std::max(1, argc > 2 ? std::atoi(argv[2]) : 7);
  sheaf::ThreadPool pool(threads);
  const sheaf::kernels::BenchMemory memory(size_t{3} << 30);
  std::vector<double> rates;
  for (int i = 0; i < repetitions; ++i)
    rates.push_back(sheaf::kernels::ReadBandwidth(pool, memory));
  std::sort(rates.begin(), rates.end());
  std::printf("read bandwidth, %d threads: median %.2f GB/s, largest %.2f GB/s\n", threads,
              rates[rates.size() / 2], rates.back());
  std::printf("two-plane peak, %d threads: %.1f G multiply-adds/s\n", threads,
              sheaf::kernels::TwoPlanePeak(pool));
  return 0;
}
