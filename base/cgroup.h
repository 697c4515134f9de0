#pragma once
// Control groups, version 1 and 2: which of them this process is in, and what they allow it. A
// limit of any group from its own up to the root of what is mounted holds.
//
// Everything is a function of texts and of a reader of files; CgroupsOfThisProcess and
// ReadWholeFile are what the system says.
//
// Errors     none: a file that is absent or says something else is no limit.

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sheaf {

struct CgroupTexts {
  std::string cgroup;     // /proc/self/cgroup
  std::string mountinfo;  // /proc/self/mountinfo
};
CgroupTexts CgroupsOfThisProcess();

// The file's text; nothing: it cannot be read.
using FileReader = std::function<std::optional<std::string>(const std::string& path)>;
std::optional<std::string> ReadWholeFile(const std::string& path);

// Directories that may hold limits of a controller ("cpu", "memory"), a group's own before those
// around it; of the controller's own hierarchy, then of the unified one.
std::vector<std::string> CgroupDirectories(const CgroupTexts& texts, std::string_view controller);

// The smallest quota of CPU time, in cores; infinity: none.
double CpuQuota(const CgroupTexts& texts, const FileReader& read);

struct CgroupMemory {
  uint64_t bytes = std::numeric_limits<uint64_t>::max();  // none
  std::string path;                                       // of the file that says so
};
// The smallest limit on memory.
CgroupMemory CgroupMemoryLimit(const CgroupTexts& texts, const FileReader& read);

}  // namespace sheaf
