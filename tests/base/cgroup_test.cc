// Quotas and memory limits from what /proc and the control groups' files say.

#include "base/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/memory_limits.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;

FileReader Files(std::map<std::string, std::string> files) {
  return [files = std::move(files)](const std::string& path) -> std::optional<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) return std::nullopt;
    return found->second;
  };
}

// systemd on a machine of its own.
const CgroupTexts kUnified = {
    "0::/system.slice/sheaf.service\n",
    "24 30 0:22 / /proc rw,nosuid - proc proc rw\n"
    "29 30 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"};
// A container with both versions, and its group below what is mounted.
const CgroupTexts kMixed = {
    "5:cpu,cpuacct:/docker/ab12/inner\n4:memory:/docker/ab12\n0::/\n",
    "36 31 0:30 /docker/ab12 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
    "37 31 0:33 /docker/ab12 /sys/fs/cgroup/memory ro master:11 - cgroup cgroup rw,memory\n"
    "38 31 0:34 / /sys/fs/cgroup/my\\040own rw - cgroup2 none rw\n"};

TEST(Cgroup, DirectoriesFromTheProcessUpwards) {
  EXPECT_THAT(CgroupDirectories(kUnified, "cpu"),
              ElementsAre("/sys/fs/cgroup/system.slice/sheaf.service",
                          "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"));
  EXPECT_THAT(CgroupDirectories(kMixed, "cpu"),
              ElementsAre("/sys/fs/cgroup/cpu/inner", "/sys/fs/cgroup/cpu",
                          "/sys/fs/cgroup/my own"));
  EXPECT_THAT(CgroupDirectories(kMixed, "memory"),
              ElementsAre("/sys/fs/cgroup/memory", "/sys/fs/cgroup/my own"));
  EXPECT_THAT(CgroupDirectories(kMixed, "cpuset"), ElementsAre("/sys/fs/cgroup/my own"));
}

TEST(Cgroup, AGroupThatIsNotSeenHereIsTheMount) {
  CgroupTexts texts = kMixed;
  texts.cgroup = "5:cpu:/elsewhere/inner\n";
  EXPECT_THAT(CgroupDirectories(texts, "cpu"), ElementsAre("/sys/fs/cgroup/cpu"));
  texts.cgroup = "0::/../sibling\n";
  EXPECT_THAT(CgroupDirectories(texts, "cpu"), ElementsAre("/sys/fs/cgroup/my own"));
}

TEST(Cgroup, TextsThatSayNothing) {
  for (const char* text : {"", "\n", "x", "::::", "0", "0:", " - ", "a b c d e - cgroup2",
                           "36 31 0:30 / /at\\04 rw - cgroup2 x rw"}) {
    const CgroupTexts texts = {text, text};
    EXPECT_TRUE(std::isinf(CpuQuota(texts, Files({})))) << text;
    EXPECT_EQ(CgroupMemoryLimit(texts, Files({})).path, "") << text;
  }
}

TEST(Cgroup, TheSmallestQuotaHolds) {
  const std::string own = "/sys/fs/cgroup/system.slice/sheaf.service/cpu.max";
  const std::string slice = "/sys/fs/cgroup/system.slice/cpu.max";
  EXPECT_TRUE(std::isinf(CpuQuota(kUnified, Files({}))));
  EXPECT_TRUE(std::isinf(CpuQuota(kUnified, Files({{own, "max 100000\n"}}))));
  EXPECT_EQ(CpuQuota(kUnified, Files({{own, "250000 100000\n"}})), 2.5);
  EXPECT_EQ(CpuQuota(kUnified, Files({{own, "250000 100000\n"}, {slice, "50000 100000\n"}})), 0.5);
  EXPECT_EQ(CpuQuota(kUnified, Files({{own, "max 100000\n"}, {slice, "800000 100000\n"}})), 8);
  const std::string v1 = "/sys/fs/cgroup/cpu";
  EXPECT_TRUE(std::isinf(CpuQuota(kMixed, Files({{v1 + "/cpu.cfs_quota_us", "-1\n"},
                                                 {v1 + "/cpu.cfs_period_us", "100000\n"}}))));
  EXPECT_EQ(CpuQuota(kMixed, Files({{v1 + "/inner/cpu.cfs_quota_us", "150000\n"},
                                    {v1 + "/inner/cpu.cfs_period_us", "50000\n"},
                                    {v1 + "/cpu.cfs_quota_us", "-1\n"},
                                    {v1 + "/cpu.cfs_period_us", "100000\n"}})),
            3);
  for (const char* text : {"", "max", "0 0", "-5 100000", "1 2 3", "many 100000"}) {
    EXPECT_TRUE(std::isinf(CpuQuota(kUnified, Files({{own, text}})))) << text;
  }
}

TEST(Cgroup, TheSmallestMemoryLimitHolds) {
  const std::string own = "/sys/fs/cgroup/system.slice/sheaf.service/memory.max";
  const std::string slice = "/sys/fs/cgroup/system.slice/memory.max";
  EXPECT_EQ(CgroupMemoryLimit(kUnified, Files({{own, "max\n"}})).path, "");
  const CgroupMemory limit =
      CgroupMemoryLimit(kUnified, Files({{own, "300000000\n"}, {slice, "200000000\n"}}));
  EXPECT_EQ(limit.bytes, 200000000u);
  EXPECT_EQ(limit.path, slice);
  const std::string v1 = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
  EXPECT_EQ(CgroupMemoryLimit(kMixed, Files({{v1, "9223372036854771712\n"}})).path, "") << "none";
  EXPECT_EQ(CgroupMemoryLimit(kMixed, Files({{v1, "209715200\n"}})).bytes, 209715200u);
}

TEST(MemoryLimits, TheMachinesOrTheGroups) {
  const std::string meminfo =
      "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    9000000 kB\n";
  const MemoryLimits machine = ReadMemoryLimits({}, Files({{"/proc/meminfo", meminfo}}));
  EXPECT_EQ(machine.bytes, uint64_t{16000000} * 1024);
  EXPECT_EQ(machine.free_bytes, uint64_t{9000000} * 1024);
  EXPECT_EQ(machine.what, "the machine's memory");
  const std::string file = "/sys/fs/cgroup/memory.max";
  const MemoryLimits group =
      ReadMemoryLimits(kUnified, Files({{"/proc/meminfo", meminfo}, {file, "209715200\n"}}));
  EXPECT_EQ(group.bytes, 209715200u);
  EXPECT_EQ(group.free_bytes, 209715200u);
  EXPECT_EQ(group.what, "the limit in " + file);
  const MemoryLimits wide =
      ReadMemoryLimits(kUnified, Files({{"/proc/meminfo", meminfo}, {file, "99999999999999\n"}}));
  EXPECT_EQ(wide.what, "the machine's memory");
  EXPECT_EQ(ReadMemoryLimits({}, Files({})).bytes, std::numeric_limits<uint64_t>::max());
}

TEST(MemoryLimits, OfANodeAndOfBoth) {
  const std::string meminfo =
      "Node 1 MemTotal:       8000000 kB\nNode 1 MemFree:        1000000 kB\n"
      "Node 1 Active(file):    200000 kB\nNode 1 Inactive(file):  300000 kB\n"
      "Node 1 SReclaimable:     50000 kB\n";
  const auto files = Files({{"/sys/devices/system/node/node1/meminfo", meminfo}});
  const MemoryLimits node = ReadNodeMemory(1, files);
  EXPECT_EQ(node.bytes, uint64_t{8000000} * 1024);
  EXPECT_EQ(node.free_bytes, uint64_t{1550000} * 1024);
  EXPECT_EQ(node.what, "NUMA node 1's memory");
  EXPECT_EQ(ReadNodeMemory(0, files).bytes, std::numeric_limits<uint64_t>::max()) << "not told";
  const MemoryLimits both = Tighter({uint64_t{1} << 40, uint64_t{1} << 20, "the machine's"}, node);
  EXPECT_EQ(both.bytes, node.bytes);
  EXPECT_EQ(both.what, node.what);
  EXPECT_EQ(both.free_bytes, uint64_t{1} << 20);
  EXPECT_EQ(Tighter(node, {uint64_t{1} << 20, uint64_t{1} << 30, "a group"}).what, "a group");
  EXPECT_EQ(Tighter(node, {uint64_t{1} << 20, uint64_t{1} << 30, "a group"}).free_bytes,
            uint64_t{1} << 20);
}

}  // namespace
}  // namespace sheaf
