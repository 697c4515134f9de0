#pragma once
// How much memory this process and its children may have: the machine's and the control groups'.
//
// Errors     none: what the system does not say is no limit.

#include <cstdint>
#include <limits>
#include <string>

#include "base/cgroup.h"

namespace sheaf {

struct MemoryLimits {
  uint64_t bytes = std::numeric_limits<uint64_t>::max();  // for good; the maximum: not known
  uint64_t free_bytes = std::numeric_limits<uint64_t>::max();  // at most that is free now
  std::string what;  // that sets `bytes`: "the machine's memory", "the limit in <file>"
};

MemoryLimits ReadMemoryLimits(const CgroupTexts& texts, const FileReader& read);
MemoryLimits DetectMemoryLimits();

// The memory of one NUMA node, by its number.
MemoryLimits ReadNodeMemory(int node, const FileReader& read);

// Of both the smaller ones.
MemoryLimits Tighter(const MemoryLimits& a, const MemoryLimits& b);

}  // namespace sheaf
