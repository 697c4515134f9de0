#include "base/numa_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/core_division.h"
#include "tests/base/numa_topologies.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// With an affinity mask of CPUs [first, end); without: all.
std::vector<NumaNode> NodesOf(const FakeTopology& topology, int first = 0, int end = -1) {
  const hwloc_bitmap_t mask = hwloc_bitmap_alloc();
  hwloc_bitmap_set_range(mask, static_cast<unsigned>(first), end < 0 ? -1 : end - 1);
  std::vector<NumaNode> nodes = NumaNodesOf(topology.get(), mask);
  hwloc_bitmap_free(mask);
  return nodes;
}

std::vector<NumaNode> NodesOf(const std::vector<FakeNode>& nodes, int first = 0, int end = -1) {
  return NodesOf(FakeTopology::OfXml(NumaXml(nodes)), first, end);
}

NumaPlacement Place(const std::vector<NumaNode>& nodes, const NumaDemand& demand) {
  const auto placement = PlaceOnNumaNodes(nodes, demand);
  EXPECT_TRUE(placement.ok()) << placement.status();
  return placement.ok() ? *placement : NumaPlacement{};
}

std::vector<int> Range(int first, int end) {
  std::vector<int> numbers;
  for (int i = first; i < end; ++i) numbers.push_back(i);
  return numbers;
}

TEST(NumaNodes, OfSyntheticTopologies) {
  const auto two =
      NodesOf(FakeTopology::OfDescription("package:2 [numa(memory=34359738368)] core:3 pu:2"));
  ASSERT_EQ(two.size(), 2u);
  for (int n = 0; n < 2; ++n) {
    const NumaNode& node = two[static_cast<size_t>(n)];
    EXPECT_EQ(node.number, n);
    EXPECT_EQ(node.machine_cores, 3);
    ASSERT_EQ(node.cores.size(), 3u);
    EXPECT_THAT(node.cores[0].cpus, ElementsAre(6 * n, 6 * n + 1));
    EXPECT_EQ(node.memory_bytes, uint64_t{32} << 30);
    EXPECT_TRUE(node.memory_is_allowed);
  }
  EXPECT_EQ(NodesOf(FakeTopology::OfDescription("package:2 group:2 [numa] core:4 pu:1")).size(),
            4u);
  EXPECT_EQ(NodesOf(FakeTopology::OfDescription("core:4 pu:2")).size(), 1u) << "hwloc adds the one";
}

TEST(NumaNodes, OfXml) {
  const auto nodes =
      NodesOf({{.cores = 2, .threads = 2, .gib = 16}, {.cores = 6, .gib = 96}, {.gib = 512}});
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[0].cores.size(), 2u);
  EXPECT_THAT(nodes[0].cores[1].cpus, ElementsAre(2, 3));
  EXPECT_EQ(nodes[1].cores.size(), 6u);
  EXPECT_EQ(nodes[1].memory_bytes, uint64_t{96} << 30);
  EXPECT_EQ(nodes[2].machine_cores, 0) << "memory alone";
  EXPECT_EQ(nodes[2].memory_bytes, uint64_t{512} << 30);
}

TEST(NumaNodes, OfThisMachine) {
  const std::vector<NumaNode> nodes = NumaNodesOfMachine();
  ASSERT_FALSE(nodes.empty());
  size_t cores = 0;
  for (const NumaNode& node : nodes) cores += node.cores.size();
  EXPECT_EQ(cores, UsableCpuCores().size());
}

TEST(NumaPlacement, RankAndWorkerOfANumberShareItsNode) {
  for (const char* description :
       {"package:2 [numa] core:16 pu:2", "package:4 [numa] core:16 pu:2"}) {
    const auto nodes = NodesOf(FakeTopology::OfDescription(description));
    const int count = static_cast<int>(nodes.size());
    const NumaPlacement placement = Place(nodes, {.ranks = count, .workers = count});
    EXPECT_THAT(placement.remarks, IsEmpty());
    EXPECT_FALSE(placement.router_shares_with_workers());
    for (int i = 0; i < count; ++i) {
      const NumaPlace& rank = placement.ranks[static_cast<size_t>(i)];
      const NumaPlace& worker = placement.workers[static_cast<size_t>(i)];
      EXPECT_EQ(rank.node, i);
      EXPECT_EQ(worker.node, i);
      EXPECT_EQ(rank.cpus, Range(32 * i, 32 * i + 16));
      EXPECT_EQ(worker.cpus, Range(32 * i + 16, 32 * i + 32));
      EXPECT_EQ(rank.cores, 8);
    }
  }
}

TEST(NumaPlacement, ARouterAndTwoWorkers) {
  const NumaPlacement placement = Place(NodesOf({{.cores = 16}, {.cores = 16}}), {.workers = 2});
  EXPECT_EQ(placement.ranks[0].cpus, Range(0, 8));
  EXPECT_EQ(placement.workers[0].cpus, Range(8, 16));
  EXPECT_EQ(placement.workers[1].cpus, Range(16, 32)) << "nobody else is there";
  EXPECT_EQ(placement.Text(),
            "node 0: router (8 cores), worker 0 (8 cores); node 1: worker 1 (16 cores)");
}

// Whatever the machine and the numbers: by number modulo the nodes, on that node's cores, whole
// cores, no overlap unless said, nothing of a divided node left over.
TEST(NumaPlacement, OfAnyMachineAmongAnyNumber) {
  const std::vector<std::vector<FakeNode>> machines = {
      {{.cores = 1}},
      {{.cores = 2}},
      {{.cores = 40, .threads = 2}},
      {{.cores = 8}, {.cores = 8}},
      {{.cores = 3, .threads = 2}, {.cores = 29, .threads = 2}},
      {{.cores = 12}, {.cores = 4}, {.cores = 20}, {.cores = 1}},
      {{.cores = 16, .threads = 2}, {.gib = 256}, {.cores = 16, .threads = 2}}};
  int divided = 0, shared = 0;
  for (const std::vector<FakeNode>& machine : machines) {
    const std::vector<NumaNode> nodes = NodesOf(machine);
    std::vector<NumaNode> with_cores;
    std::ranges::copy_if(nodes, std::back_inserter(with_cores),
                         [](const NumaNode& node) { return node.machine_cores > 0; });
    for (const int ranks : {1, 2, 3, 8}) {
      for (const int workers : {0, 1, 2, 5, 16}) {
        SCOPED_TRACE(::testing::Message() << machine.size() << " nodes, " << ranks << " ranks, "
                                          << workers << " workers");
        const NumaPlacement placement = Place(nodes, {.ranks = ranks, .workers = workers});
        ASSERT_EQ(placement.ranks.size(), static_cast<size_t>(ranks));
        ASSERT_EQ(placement.workers.size(), static_cast<size_t>(workers));
        for (const std::vector<NumaPlace>* places : {&placement.ranks, &placement.workers}) {
          for (size_t i = 0; i < places->size(); ++i) {
            EXPECT_EQ((*places)[i].node, with_cores[i % with_cores.size()].number);
          }
        }
        std::vector<NumaPlace> all = placement.ranks;
        all.insert(all.end(), placement.workers.begin(), placement.workers.end());
        for (const NumaNode& node : with_cores) {
          std::multiset<int> taken;
          std::set<int> has;
          bool someone = false, is_shared = false;
          size_t count = 0;
          for (const CpuCore& core : node.cores) has.insert(core.cpus.begin(), core.cpus.end());
          for (const NumaPlace& place : all) {
            if (place.node != node.number) continue;
            someone = true;
            ++count;
            is_shared = is_shared || place.shares_cores;
            EXPECT_FALSE(place.cpus.empty());
            EXPECT_TRUE(std::ranges::is_sorted(place.cpus));
            EXPECT_TRUE(std::ranges::includes(has, place.cpus)) << "cores of another node";
            EXPECT_EQ(place.cpus.size(),
                      static_cast<size_t>(place.cores) * node.cores[0].cpus.size());
            taken.insert(place.cpus.begin(), place.cpus.end());
          }
          if (!someone) continue;
          EXPECT_EQ(is_shared, count > 1 && node.cores.size() < CoreDivision::kCoresEach * count);
          if (is_shared) {
            ++shared;
            EXPECT_EQ(taken.size(), has.size() * count);
          } else {
            ++divided;
            EXPECT_EQ(std::multiset<int>(has.begin(), has.end()), taken);
          }
        }
      }
    }
  }
  EXPECT_GT(divided, 50);
  EXPECT_GT(shared, 50);
}

TEST(NumaPlacement, FewerThanNodesIsRemarked) {
  const auto nodes = NodesOf({{.cores = 8}, {.cores = 8}, {.cores = 8}, {.cores = 8}});
  EXPECT_THAT(Place(nodes, {.workers = 2}).remarks,
              ElementsAre("NUMA nodes 2, 3 stay empty: 4 nodes could have as many workers or "
                          "attention ranks"));
  EXPECT_THAT(Place(nodes, {.ranks = 3}).remarks,
              ElementsAre(HasSubstr("NUMA node 3 stays empty")));
  EXPECT_THAT(Place(nodes, {.workers = 4}).remarks, IsEmpty());
}

TEST(NumaPlacement, ARestrictedMaskLeavesNodesAndCoresOut) {
  // Node 1 and half of node 2.
  const auto nodes = NodesOf({{.cores = 8}, {.cores = 8}, {.cores = 8}}, 8, 20);
  const NumaPlacement placement = Place(nodes, {.ranks = 2, .workers = 2});
  EXPECT_THAT(placement.remarks,
              ElementsAre("NUMA node 0 is left out: none of its 8 cores is in this process's "
                          "affinity mask"));
  EXPECT_EQ(placement.ranks[0].node, 1);
  EXPECT_EQ(placement.ranks[1].node, 2);
  EXPECT_EQ(placement.ranks[0].cpus, Range(8, 12));
  EXPECT_EQ(placement.workers[0].cpus, Range(12, 16));
  EXPECT_EQ(placement.ranks[1].cpus, Range(16, 20)) << "4 cores, two processes: shared";
  EXPECT_EQ(placement.workers[1].cpus, Range(16, 20));
  EXPECT_FALSE(placement.router_shares_with_workers()) << "its own node is divided";
  EXPECT_EQ(placement.Text(),
            "node 1: router (4 cores), worker 0 (4 cores); node 2: attention rank 1 (4 cores, "
            "shared), worker 1 (4 cores, shared)");
}

TEST(NumaPlacement, AMaskMayCutAcrossACore) {
  const auto nodes = NodesOf({{.cores = 2, .threads = 2}, {.cores = 2, .threads = 2}}, 1, 5);
  const NumaPlacement placement = Place(nodes, {.workers = 2});
  EXPECT_EQ(placement.ranks[0].cpus, Range(1, 4));
  EXPECT_EQ(placement.ranks[0].cores, 2);
  EXPECT_EQ(placement.workers[1].cpus, Range(4, 5));
}

TEST(NumaPlacement, OneNodeIsSaid) {
  EXPECT_THAT(Place(NodesOf({{.cores = 8}}), {.workers = 2}).remarks,
              ElementsAre("this machine has one NUMA node: all processes are on node 0"));
  EXPECT_THAT(Place(NodesOf({{.cores = 8}, {.cores = 8}}, 0, 8), {.workers = 2}).remarks,
              ElementsAre(HasSubstr("NUMA node 1 is left out"),
                          "one NUMA node may be used: all processes are on node 0"));
}

TEST(NumaPlacement, MemoryThatIsNotAllowed) {
  const FakeTopology topology = FakeTopology::OfXml(NumaXml({{.cores = 8}, {.cores = 8}}));
  const hwloc_bitmap_t node = hwloc_bitmap_alloc();
  hwloc_bitmap_set(node, 1);
  ASSERT_EQ(hwloc_topology_allow(topology.get(), nullptr, node, HWLOC_ALLOW_FLAG_CUSTOM), 0);
  hwloc_bitmap_free(node);
  const auto nodes = NodesOf(topology);
  const NumaPlacement placement = Place(nodes, {.workers = 2});
  EXPECT_THAT(placement.remarks[0], HasSubstr("node 0 is left out: its memory is not allowed"));
  EXPECT_EQ(placement.ranks[0].node, 1);
  EXPECT_THAT(std::string(UsableNode(nodes, 0).status().message()), HasSubstr("cpuset.mems"));
}

TEST(NumaPlacement, NoNodeAtAllIsRefused) {
  const auto nowhere = NodesOf({{.cores = 8}, {.cores = 1}}, 64, 65);
  const absl::Status status = PlaceOnNumaNodes(nowhere, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "NUMA node 0 is left out: none of its 8 cores is in this process's affinity mask; NUMA "
            "node 1 is left out: none of its 1 core is in this process's affinity mask");
  EXPECT_EQ(PlaceOnNumaNodes({}, {}).status().message(), "this system does not tell of NUMA nodes");
}

TEST(NumaPlacement, NothingIsDividedWhereThreadsAreTold) {
  const NumaPlacement placement =
      Place(NodesOf({{.cores = 16}, {.cores = 16}}), {.workers = 3, .divide = false});
  EXPECT_EQ(placement.ranks[0].cpus, Range(0, 16));
  EXPECT_EQ(placement.workers[0].cpus, Range(0, 16));
  EXPECT_EQ(placement.workers[1].cpus, Range(16, 32));
  EXPECT_EQ(placement.workers[2].cpus, Range(0, 16));
  EXPECT_TRUE(placement.router_shares_with_workers());
  EXPECT_FALSE(placement.workers[1].shares_cores);
}

TEST(NumaPlacement, AQuotaIsOfTheNodesThatAreUsed) {
  const auto nodes = NodesOf({{.cores = 24}, {.cores = 8}});
  NumaPlacement placement = Place(nodes, {.ranks = 2, .quota = 16.9});
  EXPECT_EQ(placement.ranks[0].cores, 12) << "16.9 x 24 / 32";
  EXPECT_EQ(placement.ranks[1].cores, 4);
  placement = Place(nodes, {.ranks = 1, .quota = 16.9});
  EXPECT_EQ(placement.ranks[0].cores, 16) << "all of it";
  placement = Place(nodes, {.ranks = 2, .quota = 0.5});
  EXPECT_EQ(placement.ranks[1].cores, 1) << "at least one";
  placement = Place(nodes, {.ranks = 2, .quota = 400});
  EXPECT_EQ(placement.ranks[0].cores, 24);
}

TEST(UsableNode, NamesWhatThereIs) {
  const auto nodes = NodesOf({{.cores = 8}, {.cores = 8}, {.gib = 64}}, 0, 8);
  ASSERT_TRUE(UsableNode(nodes, 0).ok());
  EXPECT_EQ(UsableNode(nodes, 0)->cores.size(), 8u);
  EXPECT_EQ(UsableNode(nodes, 7).status().message(),
            "wanted one of this machine's NUMA nodes (0, 1, 2), got 7");
  EXPECT_EQ(UsableNode(nodes, 1).status().message(),
            "NUMA node 1 cannot be used: none of its 8 cores is in this process's affinity mask");
  EXPECT_EQ(UsableNode(nodes, 2).status().message(), "NUMA node 2 cannot be used: it has no cores");
}

}  // namespace
}  // namespace sheaf
