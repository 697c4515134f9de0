#pragma once
// World: what all parts of one simulation share: time, chance, network, trace, invariants, the
// model and the ledger of what was really computed.
//
// An expert's answer for a token is a pure function of (weights, token); weights of (model, layer,
// expert). So the same bytes can be asked for without computing anything.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "exchange/model_identity.h"
#include "tests/simulation/event_queue.h"
#include "tests/simulation/invariants.h"
#include "tests/simulation/mutants/mutants.h"
#include "tests/simulation/process.h"
#include "tests/simulation/random.h"
#include "tests/simulation/simulated_network.h"
#include "tests/simulation/trace.h"

namespace sheaf::simulation {

class SimulatedWorker;
class SimulatedRouter;
class SimulatedCoordinator;

// Floats of a vector: they carry the 64 bits of an answer.
inline constexpr int kHidden = 2;
inline constexpr uint64_t kExpertBytes = 1 << 20;

// What a worker really did for one ask; only the simulation knows.
struct Computed {
  int worker_host = 0;
  uint64_t worker_life = 0;
  std::vector<int32_t> experts;
  std::vector<int32_t> corrupted;  // of those
};

struct World {
  World(uint64_t seed, bool print, const NetworkOptions& network_options)
      : random(seed), trace(print), network(queue, random.Fork(), network_options) {}

  EventQueue queue;
  Random random;
  Trace trace;
  Invariants invariants;
  SimulatedNetwork network;
  Mutant mutant = Mutant::kNone;
  ModelIdentity model;

  // By host.
  std::map<int, SimulatedWorker*> workers;
  std::map<int, SimulatedRouter*> routers;
  SimulatedCoordinator* coordinator = nullptr;

  // By link and sequence.
  std::map<std::pair<uint64_t, uint64_t>, Computed> ledger;

  TimePoint now() const { return queue.now(); }

  uint64_t Weights(LayerId layer, ExpertId expert) const {
    return Mix(model.digest ^ Mix(static_cast<uint64_t>(layer.value()) << 32 |
                                  static_cast<uint64_t>(expert.value())));
  }
  static uint64_t Answer(uint64_t weights, uint64_t token) { return Mix(weights ^ Mix(token)); }
};

}  // namespace sheaf::simulation
