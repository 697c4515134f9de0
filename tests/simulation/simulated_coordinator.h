#pragma once
// SimulatedCoordinator: the real coordinator/pool_state in a process of its own, over simulated
// sessions.
//
// Threads    one.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "coordinator/pool_state.h"
#include "tests/simulation/messages.h"
#include "tests/simulation/world.h"

namespace sheaf::simulation {

class SimulatedCoordinator {
 public:
  SimulatedCoordinator(World& world, int host, const PoolStateOptions& options);
  ~SimulatedCoordinator();

  Process& process() { return process_; }
  void Start();
  void Kill();

  // Operators, when it is there and not frozen.
  void Drain(WorkerId worker);
  void Undrain(WorkerId worker);
  void UndrainAll();
  void SetReplicas(double replicas);
  void Rebalance();

  const v1::ModelIdentity& ModelMessage() const { return model_; }
  // Null while it is down.
  const PoolState* state() const { return state_.get(); }
  Duration lease() const { return options_.lease; }
  std::string StatusText() const;

 private:
  void Accept(const ChannelPtr& channel, bool router);
  void TickLoop();
  void Tick();
  void Act();
  void CheckHold(SessionId session, const v1::Hold& hold);
  void CheckLoss(const LostWorker& lost);

  World& world_;
  const PoolStateOptions options_;
  v1::ModelIdentity model_;
  Process process_;
  std::unique_ptr<PoolState> state_;
  std::map<uint64_t, ChannelPtr> sessions_;
  uint64_t last_session_ = 0;
  TimePoint last_tick_;
};

}  // namespace sheaf::simulation
