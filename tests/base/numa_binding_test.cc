// On the machine that there is: what the kernel says of threads and pages after a binding. Each
// test binds a thread of its own, so that the others stay free.
#include "base/numa_binding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwloc.h>
#include <sched.h>
#include <sys/mman.h>

#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "base/cpu_topology.h"
#include "base/numa_placement.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

int SomeNode() {
  for (const NumaNode& node : NumaNodesOfMachine()) {
    if (WhyUnusable(node).empty()) return node.number;
  }
  ADD_FAILURE() << "no node";
  return 0;
}

// "bind:0": the policy of the calling thread, and its nodes.
std::string PolicyOfThisThread() {
  hwloc_topology_t topology;
  hwloc_topology_init(&topology);
  hwloc_topology_load(topology);
  const hwloc_bitmap_t nodes = hwloc_bitmap_alloc();
  hwloc_membind_policy_t policy{};
  EXPECT_EQ(hwloc_get_membind(topology, nodes, &policy,
                              HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET),
            0);
  char* text = nullptr;
  hwloc_bitmap_list_asprintf(&text, nodes);
  const std::string result =
      (policy == HWLOC_MEMBIND_BIND ? "bind:" : absl::StrFormat("policy %d:", policy)) +
      std::string(text);
  free(text);
  hwloc_bitmap_free(nodes);
  hwloc_topology_destroy(topology);
  return result;
}

// The kernel's line about the mapping that begins at `data`, as `thread` (of this process) sees it.
// A mapping without a policy of its own shows the policy of the thread whose file is read.
std::string NumaMapsLine(const void* data) {
  std::ifstream file("/proc/thread-self/numa_maps");
  const std::string begin = absl::StrFormat("%08x ", reinterpret_cast<uintptr_t>(data));
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, begin)) return line;
  }
  return "";
}

bool CanBind() {
  bool can = false;
  std::thread([&] {
    const auto text = BindToNumaNode(SomeNode());
    can = text.ok() && absl::StrContains(*text, "alone");
  }).join();
  return can;
}

TEST(NumaBinding, HoldsForThreadsThatAreStartedLater) {
  if (!CanBind()) GTEST_SKIP() << "the system does not let memory be bound (set_mempolicy)";
  const std::string wanted = absl::StrFormat("bind:%d", SomeNode());
  std::string earlier, later;
  std::thread([&] {
    EXPECT_NE(PolicyOfThisThread(), wanted) << "before";
    const auto text = BindToNumaNode(SomeNode());
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_THAT(*text, HasSubstr(absl::StrFormat("on NUMA node %d: ", SomeNode())));
    EXPECT_EQ(PolicyOfThisThread(), wanted);
    std::thread([&] { later = PolicyOfThisThread(); }).join();
  }).join();
  EXPECT_EQ(later, wanted);
  EXPECT_NE(PolicyOfThisThread(), wanted) << "a thread that was there before is its own master";
}

// What weights are kept in: mapped, advised to use huge pages, and touched by another thread.
TEST(NumaBinding, PagesAreOfTheThreadThatTouchesThem) {
  if (!CanBind()) GTEST_SKIP() << "the system does not let memory be bound (set_mempolicy)";
  constexpr size_t kBytes = size_t{32} << 20;
  void* const data = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  madvise(data, kBytes, MADV_HUGEPAGE);
  std::string line;
  std::thread([&] {
    ASSERT_TRUE(BindToNumaNode(SomeNode()).ok());
    std::thread([&] {
      std::memset(data, 1, kBytes);
      line = NumaMapsLine(data);
    }).join();
  }).join();
  if (line.empty()) GTEST_SKIP() << "this kernel has no numa_maps, or has put mappings together";
  EXPECT_THAT(line, HasSubstr(absl::StrFormat(" bind:%d ", SomeNode())));
  EXPECT_THAT(line, HasSubstr(absl::StrFormat(" N%d=", SomeNode())));
  EXPECT_THAT(NumaMapsLine(data), HasSubstr(" default ")) << "for others it is what they have";
  munmap(data, kBytes);
}

TEST(NumaBinding, CoresAreThoseOfTheNode) {
  const int number = SomeNode();
  const NumaNode node = *UsableNode(NumaNodesOfMachine(), number);
  std::thread([&] {
    ASSERT_TRUE(RunOnCpus(node.cores.back().cpus).ok());
    const auto text = BindToNumaNode(number);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_THAT(*text, HasSubstr(absl::StrFormat(": 1 of its %d cores", node.machine_cores)))
        << "of the mask that there was";
    const std::vector<CpuCore> cores = UsableCpuCores();
    ASSERT_EQ(cores.size(), 1u);
    EXPECT_EQ(cores[0].cpus, node.cores.back().cpus);
  }).join();
}

TEST(NumaBinding, ANodeThatThereIsNot) {
  const absl::Status status = BindToNumaNode(4095).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("got 4095"));
  EXPECT_FALSE(RunOnCpus({}).ok());
}

}  // namespace
}  // namespace sheaf
