#pragma once
// What a SimulatedRouter has for one life of its process, for the files that make it up: its
// session, steps and checks.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/simulation/router/simulated_router.h"

namespace sheaf::simulation {

struct SimulatedRouter::Life {
  Life(const PoolLinksOptions& links_options, const LayerMachineOptions& machine_options,
       LinkPoolObserver* observer)
      : links(links_options, observer), machine(links.table(), links.times(), machine_options) {}

  PoolLinks links;
  LayerMachine machine;
  std::map<WorkerId, LinkId> link_of;      // that live
  std::map<WorkerId, LinkId> made;         // handed to PoolLinks last
  std::map<WorkerId, InstanceId> instance_of;
  std::map<WorkerId, int> host_of;

  ChannelPtr session;
  Duration back_off = std::chrono::milliseconds(100);
  std::map<WorkerId, int64_t> failures_told;
  std::vector<v1::WrongAnswer> wrong;
  std::vector<uint32_t> pair_counts;

  // The step.
  enum class Phase { kPause, kLayer, kGivenUp } phase = Phase::kPause;
  TimePoint begin_at;  // of the next step, or of the next try
  uint64_t step = 0;
  int layer = 0;
  int num_tokens = 0;
  std::vector<uint64_t> tokens;
  std::vector<int32_t> expert_ids;
  std::vector<Pair> pairs;  // by slot
  std::map<int32_t, WorkerId> answered_by;
  TimePoint layer_begun;
  TimePoint look_at_all;
  std::vector<LayerExpert> orphans;
  // Of each expert that the layer needs: who has held it since it began.
  std::vector<std::pair<LayerExpert, std::vector<WorkerId>>> holders_all_along;
  uint64_t timer = 0;
  bool wake_soon = false;
  bool running = false;
};

}  // namespace sheaf::simulation
