#pragma once
// Invariants: what must hold at every moment of every simulation, and what was seen not to. Those
// that watch call Violate; a run without violations is good.
//
//   answers    every pair of a finished step was counted once, computed by who held that expert
//              then, on the very link and for the very ask that it was counted for; its bytes are
//              the reference's
//   holdings   a worker gives an expert up only when no live link's router believes that it has it
//   moves      nobody is told to drop the last copy
//   memory     resident and loading bytes stay below a worker's bound; nobody is asked to hold more
//   links      what the layer believes to be owed is what the links owe
//   lateness   with a healthy holder for every expert a layer does not wait for an unhealthy one
//   leases     no worker is held for lost that spoke in time
//   liveness   when faults have stopped: every expert is held, every router finishes steps, wrong
//              bytes are found

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sheaf::simulation {

struct Violation {
  std::string rule;
  std::string text;
};

class Invariants {
 public:
  void Violate(const std::string& rule, const std::string& text) {
    ++counts_[rule];
    if (violations_.size() < 16) violations_.push_back({rule, text});
  }
  bool ok() const { return violations_.empty(); }
  const std::vector<Violation>& violations() const { return violations_; }
  const std::map<std::string, int64_t>& counts() const { return counts_; }

 private:
  std::vector<Violation> violations_;
  std::map<std::string, int64_t> counts_;
};

}  // namespace sheaf::simulation
