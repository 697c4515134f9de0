#pragma once
// Machines that there are not: hwloc topologies from XML that is written here, for what hwloc's own
// synthetic descriptions cannot say (nodes of different size, memory without cores).

#include <gtest/gtest.h>
#include <hwloc.h>

#include <string>
#include <vector>

#include "absl/strings/str_format.h"

namespace sheaf {

struct FakeNode {
  int cores = 0;
  int threads = 1;  // of a core
  uint64_t gib = 64;
};

// A bitmap of bits [first, end) in hwloc's notation, of 32 bits a word.
inline std::string Bits(int first, int end) {
  const hwloc_bitmap_t bits = hwloc_bitmap_alloc();
  if (end > first) {
    hwloc_bitmap_set_range(bits, static_cast<unsigned>(first), end - 1);
  }
  char* text = nullptr;
  hwloc_bitmap_asprintf(&text, bits);
  std::string result = text;
  free(text);
  hwloc_bitmap_free(bits);
  return result;
}

inline std::string Sets(const std::string& cpus, const std::string& nodes) {
  return absl::StrFormat(
      R"(cpuset="%s" complete_cpuset="%s" nodeset="%s" complete_nodeset="%s")", cpus, cpus, nodes,
      nodes);
}

// A package a node; hardware threads are numbered one core after the other.
inline std::string NumaXml(const std::vector<FakeNode>& nodes) {
  int all_cpus = 0;
  for (const FakeNode& node : nodes) all_cpus += node.cores * node.threads;
  const std::string all = Bits(0, all_cpus);
  const std::string all_nodes = Bits(0, static_cast<int>(nodes.size()));
  std::string text = absl::StrFormat(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
      "<topology version=\"2.0\">\n"
      R"(<object type="Machine" os_index="0" %s allowed_cpuset="%s" allowed_nodeset="%s" gp_index="1">)",
      Sets(all, all_nodes), all, all_nodes);
  int cpu = 0, id = 2, core_number = 0;
  for (int n = 0; n < static_cast<int>(nodes.size()); ++n) {
    const FakeNode& node = nodes[static_cast<size_t>(n)];
    const std::string own = Bits(n, n + 1);
    const int first = cpu, end = cpu + node.cores * node.threads;
    const std::string memory =
        absl::StrFormat(R"(<object type="NUMANode" os_index="%d" %s gp_index="%d" )"
                        R"(local_memory="%d"/>)",
                        n, Sets(Bits(first, end), own), id++, node.gib << 30);
    if (node.cores == 0) {
      text += memory;
      continue;
    }
    text += absl::StrFormat(R"(<object type="Package" os_index="%d" %s gp_index="%d">)", n,
                            Sets(Bits(first, end), own), id++);
    text += memory;
    for (int core = 0; core < node.cores; ++core) {
      text += absl::StrFormat(R"(<object type="Core" os_index="%d" %s gp_index="%d">)",
                              core_number++, Sets(Bits(cpu, cpu + node.threads), own), id++);
      for (int thread = 0; thread < node.threads; ++thread, ++cpu) {
        text += absl::StrFormat(R"(<object type="PU" os_index="%d" %s gp_index="%d"/>)", cpu,
                                Sets(Bits(cpu, cpu + 1), own), id++);
      }
      text += "</object>";
    }
    text += "</object>";
  }
  return text + "</object></topology>\n";
}

// A loaded topology.
class FakeTopology {
 public:
  static FakeTopology OfXml(const std::string& xml) {
    FakeTopology fake;
    EXPECT_EQ(hwloc_topology_set_xmlbuffer(fake.topology_, xml.data(),
                                           static_cast<int>(xml.size()) + 1),
              0);
    fake.Load();
    return fake;
  }
  static FakeTopology OfDescription(const char* description) {
    FakeTopology fake;
    EXPECT_EQ(hwloc_topology_set_synthetic(fake.topology_, description), 0) << description;
    fake.Load();
    return fake;
  }
  ~FakeTopology() {
    if (topology_ != nullptr) hwloc_topology_destroy(topology_);
  }
  FakeTopology(FakeTopology&& other) noexcept : topology_(other.topology_) {
    other.topology_ = nullptr;
  }
  FakeTopology(const FakeTopology&) = delete;

  hwloc_topology_t get() const { return topology_; }

 private:
  FakeTopology() {
    EXPECT_EQ(hwloc_topology_init(&topology_), 0);
    EXPECT_EQ(hwloc_topology_set_flags(topology_, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED), 0);
  }
  void Load() { EXPECT_EQ(hwloc_topology_load(topology_), 0); }

  hwloc_topology_t topology_ = nullptr;
};

}  // namespace sheaf
