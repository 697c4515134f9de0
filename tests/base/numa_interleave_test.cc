// Which nodes on made-up machines, and what this machine's kernel says of pages afterwards.
#include "base/numa_interleave.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "tests/base/numa_topologies.h"

namespace sheaf {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// On CPUs [first, end).
std::vector<int> NodesOn(const char* machine, int first, int end) {
  const FakeTopology topology = FakeTopology::OfDescription(machine);
  const hwloc_bitmap_t mask = hwloc_bitmap_alloc();
  hwloc_bitmap_set_range(mask, static_cast<unsigned>(first), end - 1);
  const std::vector<NumaNode> nodes = NumaNodesOf(topology.get(), mask);
  hwloc_bitmap_free(mask);
  return NodesToInterleave(nodes);
}

TEST(NumaInterleave, NodesAreThoseOfTheProcesssCores) {
  constexpr const char* kTwo = "package:2 [numa(memory=34359738368)] core:4 pu:2";
  EXPECT_THAT(NodesOn(kTwo, 0, 16), ElementsAre(0, 1));
  EXPECT_THAT(NodesOn(kTwo, 6, 10), ElementsAre(0, 1)) << "a core of each";
  EXPECT_THAT(NodesOn(kTwo, 8, 16), ElementsAre(1));
  EXPECT_THAT(NodesOn("package:2 group:2 [numa(memory=34359738368)] core:4 pu:1", 4, 12),
              ElementsAre(1, 2));
}

// The kernel's line about the mapping that begins at `data`.
std::string NumaMapsLine(const void* data) {
  std::ifstream file("/proc/thread-self/numa_maps");
  const std::string begin = absl::StrFormat("%08x ", reinterpret_cast<uintptr_t>(data));
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, begin)) return line;
  }
  return "";
}

TEST(NumaInterleave, TheMappingSaysSoAndOthersDoNot) {
  const std::vector<int> nodes = NodesToInterleave(NumaNodesOfMachine());
  ASSERT_FALSE(nodes.empty());
  constexpr size_t kBytes = size_t{8} << 20;
  const auto map = [] {
    return mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  };
  void* const data = map();
  void* const other = map();
  ASSERT_NE(data, MAP_FAILED);
  ASSERT_NE(other, MAP_FAILED);
  if (!InterleavePages(data, kBytes, nodes)) GTEST_SKIP() << "the system refuses mbind";
  std::memset(data, 1, kBytes);
  std::memset(other, 1, kBytes);
  if (NumaMapsLine(data).empty()) GTEST_SKIP() << "this kernel has no numa_maps";
  EXPECT_THAT(NumaMapsLine(data), HasSubstr(absl::StrFormat(" interleave:%d", nodes.front())));
  EXPECT_THAT(NumaMapsLine(other), AnyOf("", HasSubstr(" default "))) << "maybe put together";
  munmap(data, kBytes);
  munmap(other, kBytes);
}

TEST(NumaInterleave, OnOneNodeNothingIsDone) {
  if (NodesToInterleave(NumaNodesOfMachine()).size() > 1) GTEST_SKIP() << "there are several";
  constexpr size_t kBytes = size_t{8} << 20;
  void* const data =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  InterleaveOverOwnNodes(data, kBytes);
  std::memset(data, 1, kBytes);
  EXPECT_THAT(NumaMapsLine(data), ::testing::Not(HasSubstr("interleave")));
  munmap(data, kBytes);
}

}  // namespace
}  // namespace sheaf
