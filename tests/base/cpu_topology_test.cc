#include "base/cpu_topology.h"

#include <gtest/gtest.h>
#include <hwloc.h>
#include <sched.h>

#include <set>
#include <thread>

namespace sheaf {
namespace {

std::vector<CpuCore> CoresOfSynthetic(const char* description) {
  hwloc_topology_t topology;
  EXPECT_EQ(hwloc_topology_init(&topology), 0);
  EXPECT_EQ(hwloc_topology_set_synthetic(topology, description), 0) << description;
  EXPECT_EQ(hwloc_topology_load(topology), 0);
  std::vector<CpuCore> cores = CpuCoresOf(topology);
  hwloc_topology_destroy(topology);
  return cores;
}

TEST(CpuTopology, ThreadsAreWholeCoresOfTheQuota) {
  CpuTopology topology;
  topology.usable_cores = 8;
  EXPECT_EQ(topology.default_threads(), 8) << "no quota";
  for (const auto& [quota, threads] : {std::pair{100.0, 8}, {8.0, 8}, {7.99, 7}, {2.5, 2}, {1.0, 1},
                                       {0.9, 1}, {0.05, 1}}) {
    topology.cpu_quota = quota;
    EXPECT_EQ(topology.default_threads(), threads) << quota;
  }
}

TEST(CpuTopology, CoresWithTheirHardwareThreadsAndNodes) {
  const std::vector<CpuCore> smt = CoresOfSynthetic("node:2 core:3 pu:2");
  ASSERT_EQ(smt.size(), 6u);
  std::set<int> cpus;
  for (size_t i = 0; i < smt.size(); ++i) {
    EXPECT_EQ(smt[i].cpus.size(), 2u);
    EXPECT_EQ(smt[i].numa_node, static_cast<int>(i / 3));
    cpus.insert(smt[i].cpus.begin(), smt[i].cpus.end());
  }
  EXPECT_EQ(cpus.size(), 12u);
  EXPECT_EQ(CoresOfSynthetic("package:2 core:64 pu:1").size(), 128u);
}

TEST(CpuTopology, OfThisProcessFollowsItsMask) {
  const CpuTopology whole = DetectCpuTopology();
  EXPECT_EQ(static_cast<int>(UsableCpuCores().size()), whole.usable_cores);
  EXPECT_GE(whole.default_threads(), 1);
  EXPECT_LE(whole.default_threads(), whole.usable_cores);
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  const int cpu = UsableCpuCores().front().cpus.front();
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  const std::vector<CpuCore> cores = UsableCpuCores();
  EXPECT_EQ(DetectCpuTopology().usable_cores, 1) << "also where it is one thread of a core";
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
  ASSERT_EQ(cores.size(), 1u);
  EXPECT_EQ(cores.front().cpus, std::vector<int>{cpu});
}

// A mask is a thread's: another one that was there before keeps its own.
TEST(CpuTopology, IsOfTheThreadThatAsks) {
  const CpuTopology whole = DetectCpuTopology();
  if (whole.usable_cores < 2) GTEST_SKIP() << "one core: no mask is smaller";
  std::thread([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(UsableCpuCores().front().cpus.front(), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_EQ(DetectCpuTopology().usable_cores, 1);
    std::thread([] { EXPECT_EQ(DetectCpuTopology().usable_cores, 1) << "inherited"; }).join();
  }).join();
  EXPECT_EQ(DetectCpuTopology().usable_cores, whole.usable_cores);
}

}  // namespace
}  // namespace sheaf
