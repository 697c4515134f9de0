// What must hold of a router's layers.

#include <algorithm>

#include "absl/strings/str_format.h"
#include "tests/simulation/router/router_life.h"
#include "tests/simulation/worker/simulated_worker.h"

namespace sheaf::simulation {
namespace {

// A worker is healthy when nothing was wrong with it for so long.
constexpr Duration kHealthyFor = std::chrono::seconds(1);

}  // namespace

void SimulatedRouter::CheckOwed() {
  for (const WorkerLinkStatus& status : life_->links.Status()) {
    const int believed = life_->machine.owed_asks(status.worker);
    if (believed == status.owed_answers) continue;
    world_.invariants.Violate(
        "links", absl::StrFormat("router on host %d: worker %d owes %d answers, the layer believes "
                                 "%d",
                                 process_.host(), status.worker.value(), status.owed_answers,
                                 believed));
  }
}

void SimulatedRouter::CheckLayer(TimePoint now) {
  Life& life = *life_;
  for (size_t slot = 0; slot < life.pairs.size(); ++slot) {
    const Pair& pair = life.pairs[slot];
    const ExpertId expert(life.expert_ids[slot]);
    const uint64_t token = life.tokens[slot / static_cast<size_t>(options_.top_k)];
    const uint64_t right = World::Answer(world_.Weights(LayerId(life.layer), expert), token);
    if (pair.answers == 1 && (pair.value == right || pair.corrupted)) continue;
    world_.invariants.Violate(
        "answers",
        absl::StrFormat("router on host %d, step %d layer %d slot %d expert %d: %s",
                        process_.host(), life.step, life.layer, slot, expert.value(),
                        pair.answers != 1 ? absl::StrFormat("%d answers", pair.answers)
                                          : "other bytes than the reference"));
  }
  CheckLate(now);
}

bool SimulatedRouter::Healthy(WorkerId worker, TimePoint since) const {
  const auto host = life_->host_of.find(worker);
  if (host == life_->host_of.end()) return false;
  SimulatedWorker& there = *world_.workers.at(host->second);
  return there.process().alive() && !there.process().frozen() &&
         there.process().touched_at() < since &&
         world_.network.Open(there.process(), process_) && life_->link_of.count(worker) != 0;
}

void SimulatedRouter::CheckLate(TimePoint now) {
  Life& life = *life_;
  if (now - life.layer_begun <= options_.late_bound) return;
  const TimePoint since = life.layer_begun - kHealthyFor;
  if (process_.touched_at() >= since) return;
  for (const auto& [pair, holders] : life.holders_all_along) {
    const bool healthy = std::any_of(holders.begin(), holders.end(), [&](WorkerId worker) {
      return Healthy(worker, since) && life.links.table().Holds(worker, pair.layer, pair.expert);
    });
    if (!healthy) return;
  }
  world_.invariants.Violate(
      "lateness",
      absl::StrFormat("router on host %d: layer %d took %d ms although healthy workers hold all "
                      "that it needs",
                      process_.host(), life.layer,
                      std::chrono::duration_cast<std::chrono::milliseconds>(now - life.layer_begun)
                          .count()));
}

}  // namespace sheaf::simulation
