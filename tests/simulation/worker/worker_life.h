#pragma once
// What a SimulatedWorker has for one life of its process, for the files that make it up: its links,
// holdings and session.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/simulation/worker/simulated_worker.h"

namespace sheaf::simulation {

struct SimulatedWorker::Life {
  Life(const HoldingPlanOptions& plan_options, const WorkerStateOptions& state_options,
       uint64_t seed, TimePoint now, EventQueue& queue, Process& process, Random random)
      : plan(plan_options), state(state_options, seed, now), disk(queue, process, random) {}

  HoldingPlan plan;
  WorkerState state;
  SimulatedDisk disk;

  std::map<LayerExpert, std::shared_ptr<Copy>> store;
  std::vector<std::shared_ptr<Copy>> going;
  int loading = 0;
  uint64_t loaded_bytes = 0;
  bool told_quiet = true;
  uint64_t load_timer = 0;

  std::vector<std::shared_ptr<Link>> links;
  size_t next_link = 0;
  bool computing = false;
  std::string encoded;
  uint64_t number = 0;  // of it
  uint64_t told_seen = 0;
  std::map<LayerExpert, TimePoint> hidden_at;  // announced as gone

  ChannelPtr session;
  uint64_t told_holdings = 0;
  uint64_t tick_timer = 0;
};

}  // namespace sheaf::simulation
