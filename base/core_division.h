#pragma once
// DivideCores: the cores of one machine for a router and the workers that it starts there, without
// overlap, so that no spinning thread of one holds a core that another needs.
//
//   the first half -> the router    the rest -> the workers, a like share each
//
// Router and workers take turns in a layer: attention, then experts. With a share x of the cores
// for the first, a layer takes a / x + b / (1 - x); a layer of GLM-4.6 has a : b = 160 : 189
// (millions of weights that a token reads, the shared expert being the router's), for which x =
// 0.48 is best. Cores stay in the order of the topology, so that a process's cores are neighbours.
//
// Shared     with fewer than kCoresEach cores a process, all of them share all cores and each parks
//            its threads before it waits for the others: then half of so few cores costs more than
//            waking. ShareCores says whether their threads fit.
// Quota      whole cores of a quota count, the first ones.
// Threads    pure.

#include <limits>
#include <span>
#include <vector>

#include "base/cpu_topology.h"

namespace sheaf {

struct CoreDivision {
  static constexpr int kCoresEach = 4;

  std::vector<int> router_cpus;                // ascending
  std::vector<std::vector<int>> worker_cpus;   // by worker
};

// No CPUs at all: they share.
CoreDivision DivideCores(std::span<const CpuCore> cores, int num_workers,
                         double quota = std::numeric_limits<double>::infinity());

// Of a router, or `ranks` processes that share its part, and workers on the same cores. Threads of
// each: 0 = all cores. That many for several workers is more than fit, and yet 5 % faster on two
// cores than one each: tokens choose experts unevenly, and the cores of a worker that is done go to
// the others.
struct SharedCores {
  bool own_cores = false;   // all threads of all processes fit beside each other
  bool take_turns = false;  // those of the ranks fit, and those of the workers
};

SharedCores ShareCores(int cores, int ranks, int rank_threads, int workers, int worker_threads);

}  // namespace sheaf
