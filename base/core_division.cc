#include "base/core_division.h"

#include <algorithm>
#include <cstdint>

namespace sheaf {
namespace {

std::vector<int> CpusOf(std::span<const CpuCore> cores) {
  std::vector<int> cpus;
  for (const CpuCore& core : cores) cpus.insert(cpus.end(), core.cpus.begin(), core.cpus.end());
  std::sort(cpus.begin(), cpus.end());
  return cpus;
}

}  // namespace

CoreDivision DivideCores(std::span<const CpuCore> cores, int num_workers, double quota) {
  CoreDivision division;
  if (quota < static_cast<double>(cores.size())) cores = cores.first(static_cast<size_t>(quota));
  const size_t workers = static_cast<size_t>(std::max(0, num_workers));
  if (workers == 0 || cores.size() < CoreDivision::kCoresEach * (workers + 1)) return division;
  const size_t router = cores.size() / 2;
  division.router_cpus = CpusOf(cores.first(router));
  const std::span<const CpuCore> rest = cores.subspan(router);
  for (size_t i = 0; i < workers; ++i) {
    const size_t begin = rest.size() * i / workers, end = rest.size() * (i + 1) / workers;
    division.worker_cpus.push_back(CpusOf(rest.subspan(begin, end - begin)));
  }
  return division;
}

SharedCores ShareCores(int cores, int ranks, int rank_threads, int workers, int worker_threads) {
  SharedCores shared;
  const int of_a_rank = rank_threads > 0 ? rank_threads : cores;
  const int of_a_worker = worker_threads > 0 ? worker_threads : cores;
  const int64_t of_ranks = int64_t{ranks} * of_a_rank;
  const int64_t of_workers = int64_t{workers} * of_a_worker;
  shared.own_cores = of_ranks + of_workers <= cores;
  shared.take_turns = of_ranks <= cores && of_workers <= cores;
  return shared;
}

}  // namespace sheaf
