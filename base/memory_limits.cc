#include "base/memory_limits.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace sheaf {
namespace {

// A line of /proc/meminfo: "MemTotal:       24683520 kB".
std::optional<uint64_t> Meminfo(const std::string& text, absl::string_view name) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t kib = 0;
    if (words.size() == 3 && words[0] == name && absl::SimpleAtoi(words[1], &kib)) {
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

}  // namespace sheaf
