#include "base/core_division.h"

#include <algorithm>

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

}  // namespace sheaf
