#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace sheaf {
namespace {

struct Mount {
  std::string root;  // the group that is seen at `point`
  std::string point;
};

// mountinfo writes blanks and backslashes as three octal digits.
std::string Unescape(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                        text[i + 3] - '0'));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

bool Lists(absl::string_view comma_separated, absl::string_view name) {
  for (const absl::string_view entry : absl::StrSplit(comma_separated, ',')) {
    if (entry == name) return true;
  }
  return false;
}

// `controller` empty: of the unified hierarchy.
std::vector<Mount> Mounts(absl::string_view mountinfo, absl::string_view controller) {
  std::vector<Mount> mounts;
  for (const absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    // id parent device root point options [more options] - type source super-options
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> where = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> what = absl::StrSplit(halves[1], ' ');
    if (where.size() < 5 || what.size() < 3) continue;
    const bool fits = controller.empty() ? what[0] == "cgroup2"
                                         : what[0] == "cgroup" && Lists(what[2], controller);
    if (fits) mounts.push_back({Unescape(where[3]), Unescape(where[4])});
  }
  return mounts;
}

// The process's group in the hierarchy; nothing: it is in none.
std::optional<std::string> GroupOf(absl::string_view cgroup, absl::string_view controller) {
  for (const absl::string_view line : absl::StrSplit(cgroup, '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const bool fits =
        controller.empty() ? parts[0] == "0" && parts[1].empty() : Lists(parts[1], controller);
    if (fits) return std::string(parts[2]);
  }
  return std::nullopt;
}

void AddDirectories(const CgroupTexts& texts, absl::string_view controller,
                    std::vector<std::string>& directories) {
  const std::optional<std::string> group = GroupOf(texts.cgroup, controller);
  if (!group.has_value()) return;
  for (const Mount& mount : Mounts(texts.mountinfo, controller)) {
    // Below what is mounted; a group that is not seen here (a namespace's): the mount itself.
    absl::string_view below = *group;
    if (mount.root != "/" && !absl::ConsumePrefix(&below, mount.root)) below = "";
    if (!below.empty() && (below[0] != '/' || below.find("/..") != absl::string_view::npos)) {
      below = "";
    }
    while (!below.empty() && below != "/") {
      directories.push_back(mount.point + std::string(below));
      below = below.substr(0, below.rfind('/'));
    }
    directories.push_back(mount.point);
  }
}

std::vector<absl::string_view> Words(const std::string& text) {
  return absl::StrSplit(text, absl::ByAnyChar(" \n\t"), absl::SkipEmpty());
}

// quota / period in cores; infinity where either is no positive number.
double Cores(absl::string_view quota, absl::string_view period) {
  int64_t quota_us = 0, period_us = 0;
  if (!absl::SimpleAtoi(quota, &quota_us) || !absl::SimpleAtoi(period, &period_us) ||
      quota_us <= 0 || period_us <= 0) {
    return std::numeric_limits<double>::infinity();
  }
  return static_cast<double>(quota_us) / static_cast<double>(period_us);
}

}  // namespace

std::optional<std::string> ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

CgroupTexts CgroupsOfThisProcess() {
  return {ReadWholeFile("/proc/self/cgroup").value_or(""),
          ReadWholeFile("/proc/self/mountinfo").value_or("")};
}

std::vector<std::string> CgroupDirectories(const CgroupTexts& texts, std::string_view controller) {
  std::vector<std::string> directories;
  AddDirectories(texts, absl::string_view(controller.data(), controller.size()), directories);
  AddDirectories(texts, "", directories);
  return directories;
}

double CpuQuota(const CgroupTexts& texts, const FileReader& read) {
  double cores = std::numeric_limits<double>::infinity();
  for (const std::string& directory : CgroupDirectories(texts, "cpu")) {
    if (const auto text = read(directory + "/cpu.max"); text.has_value()) {
      const std::vector<absl::string_view> words = Words(*text);
      if (words.size() == 2) cores = std::min(cores, Cores(words[0], words[1]));
    }
    const auto quota = read(directory + "/cpu.cfs_quota_us");
    const auto period = read(directory + "/cpu.cfs_period_us");
    if (!quota.has_value() || !period.has_value()) continue;
    const std::vector<absl::string_view> quota_words = Words(*quota), period_words = Words(*period);
    if (quota_words.size() == 1 && period_words.size() == 1) {
      cores = std::min(cores, Cores(quota_words[0], period_words[0]));
    }
  }
  return cores;
}

CgroupMemory CgroupMemoryLimit(const CgroupTexts& texts, const FileReader& read) {
  // What version 1 says where there is no limit: the largest number of whole pages.
  constexpr uint64_t kNone = uint64_t{1} << 62;
  CgroupMemory limit;
  for (const std::string& directory : CgroupDirectories(texts, "memory")) {
    for (const char* name : {"/memory.max", "/memory.limit_in_bytes"}) {
      const std::string path = directory + name;
      const auto text = read(path);
      if (!text.has_value()) continue;
      const std::vector<absl::string_view> words = Words(*text);
      uint64_t bytes = 0;
      if (words.size() != 1 || !absl::SimpleAtoi(words[0], &bytes)) continue;  // "max"
      if (bytes < kNone && bytes < limit.bytes) limit = {bytes, path};
    }
  }
  return limit;
}

}  // namespace sheaf
