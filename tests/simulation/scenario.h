#pragma once
// Scenario: one simulation from a seed: a pool of random shape, a time of random faults, then a
// time without any, in which everything must be well again.
//
//   faults     crashes, hangs, slowness of workers, routers and the coordinator; connections that
//              break; paths blocked one way or both, or slow; joins, leaves, drains, other replica
//              counts; bad and slow disks; wrong bytes (with verification)
//
// It ends at the first violation. Same options, same trace hash.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "tests/simulation/invariants.h"
#include "tests/simulation/mutants/mutants.h"

namespace sheaf::simulation {

struct ScenarioOptions {
  uint64_t seed = 1;
  bool print = false;
  Mutant mutant = Mutant::kNone;
  // A layer whose experts all have a healthy holder takes no longer.
  Duration late_bound = std::chrono::milliseconds(600);
};

struct ScenarioResult {
  uint64_t seed = 0;
  uint64_t trace_hash = 0;
  uint64_t events = 0;
  int64_t steps = 0;
  int64_t layers = 0;
  int64_t steps_given_up = 0;
  int64_t asked_again = 0;  // pairs
  int64_t wrong_answers = 0;
  double simulated_seconds = 0;
  double calm_seconds = 0;  // from the end of the faults until all was well
  std::string shape;  // of the pool, for people
  std::vector<Violation> violations;
  bool ok() const { return violations.empty(); }
};

ScenarioResult RunScenario(const ScenarioOptions& options);

}  // namespace sheaf::simulation
