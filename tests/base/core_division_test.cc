#include "base/core_division.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace sheaf {
namespace {

// `count` cores of `threads` hardware threads, numbered as Linux does: siblings far apart.
std::vector<CpuCore> Machine(int count, int threads, int nodes) {
  std::vector<CpuCore> cores;
  for (int i = 0; i < count; ++i) {
    CpuCore core;
    for (int thread = 0; thread < threads; ++thread) core.cpus.push_back(i + thread * count);
    core.numa_node = i * nodes / count;
    cores.push_back(core);
  }
  return cores;
}

TEST(CoreDivision, OfAnyMachineAmongAnyNumber) {
  for (int cores = 1; cores <= 128; ++cores) {
    for (int threads : {1, 2}) {
      for (int nodes : {1, 2}) {
        for (int workers : {0, 1, 2, 3, 4, 8, 16}) {
          SCOPED_TRACE(::testing::Message() << cores << " cores, " << workers << " workers");
          const std::vector<CpuCore> machine = Machine(cores, threads, nodes);
          const CoreDivision division = DivideCores(machine, workers);
          if (workers == 0 || cores < CoreDivision::kCoresEach * (workers + 1)) {
            EXPECT_TRUE(division.router_cpus.empty());
            EXPECT_TRUE(division.worker_cpus.empty());
            continue;
          }
          ASSERT_EQ(division.worker_cpus.size(), static_cast<size_t>(workers));
          std::vector<std::vector<int>> all = division.worker_cpus;
          all.push_back(division.router_cpus);
          std::set<int> seen;
          size_t count = 0;
          for (const std::vector<int>& cpus : all) {
            // Whole cores, at least half of an even share.
            EXPECT_EQ(cpus.size() % static_cast<size_t>(threads), 0u);
            EXPECT_GE(cpus.size() / static_cast<size_t>(threads), CoreDivision::kCoresEach / 2u);
            for (const int cpu : cpus) {
              const int sibling = (cpu + cores) % (cores * threads);
              EXPECT_TRUE(threads == 1 || std::ranges::find(cpus, sibling) != cpus.end()) << cpu;
            }
            EXPECT_TRUE(std::ranges::is_sorted(cpus));
            seen.insert(cpus.begin(), cpus.end());
            count += cpus.size();
          }
          EXPECT_EQ(seen.size(), count) << "no overlap";
          EXPECT_EQ(seen.size(), static_cast<size_t>(cores * threads)) << "nothing is left over";
          EXPECT_EQ(division.router_cpus.size(), static_cast<size_t>(cores / 2 * threads));
          const auto [least, most] = std::ranges::minmax_element(
              division.worker_cpus, {}, [](const std::vector<int>& cpus) { return cpus.size(); });
          EXPECT_LE(most->size() - least->size(), static_cast<size_t>(threads));
        }
      }
    }
  }
}

TEST(SharedCores, TheyTakeTurnsWhereRanksFitAndWorkersFit) {
  EXPECT_TRUE(ShareCores(2, 1, 0, 1, 0).take_turns);
  EXPECT_TRUE(ShareCores(2, 1, 0, 2, 1).take_turns);
  EXPECT_TRUE(ShareCores(2, 2, 1, 2, 1).take_turns);
  EXPECT_FALSE(ShareCores(2, 1, 0, 2, 0).take_turns) << "two workers with all cores each";
  EXPECT_FALSE(ShareCores(2, 2, 0, 2, 1).take_turns) << "two ranks with all cores each";
  EXPECT_FALSE(ShareCores(2, 1, 1, 2, 2).take_turns);
  EXPECT_FALSE(ShareCores(2, 1, 1, 3, 1).take_turns);
  EXPECT_FALSE(ShareCores(2, 1, 1, 2, 1).own_cores) << "three threads on two cores";
  EXPECT_TRUE(ShareCores(64, 1, 32, 4, 8).own_cores);
  EXPECT_FALSE(ShareCores(64, 1, 33, 4, 8).own_cores);
}

TEST(CoreDivision, NeighboursStayTogether) {
  const CoreDivision division = DivideCores(Machine(16, 2, 2), 2);
  EXPECT_EQ(division.router_cpus, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21,
                                                    22, 23}));
  EXPECT_EQ(division.worker_cpus[0], (std::vector<int>{8, 9, 10, 11, 24, 25, 26, 27}));
  EXPECT_EQ(division.worker_cpus[1], (std::vector<int>{12, 13, 14, 15, 28, 29, 30, 31}));
}

TEST(CoreDivision, AQuotaIsDivided) {
  const std::vector<CpuCore> machine = Machine(64, 1, 1);
  const CoreDivision division = DivideCores(machine, 2, 12.9);
  EXPECT_EQ(division.router_cpus, (std::vector<int>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(division.worker_cpus[0], (std::vector<int>{6, 7, 8}));
  EXPECT_EQ(division.worker_cpus[1], (std::vector<int>{9, 10, 11}));
  EXPECT_TRUE(DivideCores(machine, 2, 11.9).router_cpus.empty());
  EXPECT_TRUE(DivideCores(machine, 2, 0.5).router_cpus.empty());
  EXPECT_EQ(DivideCores(machine, 2, 1000).router_cpus.size(), 32u);
}

}  // namespace
}  // namespace sheaf
