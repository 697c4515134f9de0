#include "base/memory_limits.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace sheaf {
namespace {

// A line of /proc/meminfo: "MemTotal:       24683520 kB", or of a node's: "Node 0 MemTotal: ...".
std::optional<uint64_t> Meminfo(const std::string& text, absl::string_view name) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t kib = 0;
    const size_t at = words.size() == 5 && words[0] == "Node" ? 2 : 0;
    if (words.size() == at + 3 && words[at] == name && absl::SimpleAtoi(words[at + 1], &kib)) {
      return kib * 1024;
    }
  }
  return std::nullopt;
}

}  // namespace

MemoryLimits ReadMemoryLimits(const CgroupTexts& texts, const FileReader& read) {
  MemoryLimits limits;
  const std::string meminfo = read("/proc/meminfo").value_or("");
  if (const auto total = Meminfo(meminfo, "MemTotal:"); total.has_value()) {
    limits.bytes = *total;
    limits.what = "the machine's memory";
  }
  limits.free_bytes = Meminfo(meminfo, "MemAvailable:").value_or(limits.bytes);
  const CgroupMemory group = CgroupMemoryLimit(texts, read);
  if (group.bytes < limits.bytes) {
    limits.bytes = group.bytes;
    limits.what = "the limit in " + group.path;
  }
  limits.free_bytes = std::min(limits.free_bytes, limits.bytes);
  return limits;
}

MemoryLimits DetectMemoryLimits() {
  return ReadMemoryLimits(CgroupsOfThisProcess(), ReadWholeFile);
}

MemoryLimits ReadNodeMemory(int node, const FileReader& read) {
  const std::string meminfo =
      read(absl::StrFormat("/sys/devices/system/node/node%d/meminfo", node)).value_or("");
  MemoryLimits limits;
  const auto total = Meminfo(meminfo, "MemTotal:");
  if (!total.has_value()) return limits;
  limits.bytes = *total;
  limits.what = absl::StrFormat("NUMA node %d's memory", node);
  // A node does not tell what is available: what is free, and what can be read again or made anew.
  uint64_t free_bytes = 0;
  for (const char* name : {"MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:"}) {
    free_bytes += Meminfo(meminfo, name).value_or(0);
  }
  limits.free_bytes = std::min(free_bytes, limits.bytes);
  return limits;
}

MemoryLimits Tighter(const MemoryLimits& a, const MemoryLimits& b) {
  MemoryLimits limits = b.bytes < a.bytes ? b : a;
  limits.free_bytes = std::min({a.free_bytes, b.free_bytes, limits.bytes});
  return limits;
}

}  // namespace sheaf
