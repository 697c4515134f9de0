#pragma once
// SimulatedRouter: a router without attention: steps of layers with random routes over the real
// links (exchange/pool/pool_links) and the real state machine of a layer
// (exchange/layer/layer_machine), driven as exchange/pool/link_pool and pooled_expert_layer do it.
// A step that is given up is run again when its experts are held.
//
// Threads    one.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "exchange/layer/layer_machine.h"
#include "exchange/pool/pool_links.h"
#include "tests/simulation/messages.h"
#include "tests/simulation/world.h"

namespace sheaf::simulation {

struct SimulatedRouterOptions {
  int max_tokens = 4;
  int top_k = 2;
  double verify_share = 0;
  Duration pause = std::chrono::milliseconds(20);  // between steps, about
  size_t link_frames = 64;
  Duration late_bound{0};  // of a layer whose experts all have a healthy holder
};

class SimulatedRouter final : public LinkPoolObserver {
 public:
  SimulatedRouter(World& world, int host, const SimulatedRouterOptions& options);
  ~SimulatedRouter() override;

  Process& process() { return process_; }
  InstanceId instance() const { return instance_; }
  void Start();
  void Kill();

  // By that link it believes that its worker has the expert, so that it may ask for it.
  bool Believes(LinkId link, const LayerExpert& pair) const;
  bool complete() const;
  int64_t steps_done() const { return steps_done_; }
  int64_t steps_given_up() const { return steps_given_up_; }
  int64_t layers_done() const { return layers_done_; }
  TimePoint last_step() const { return last_step_; }
  Duration longest_layer() const { return longest_layer_; }
  std::string Waits() const;
  const LayerStatistics& statistics() const { return statistics_; }

 private:
  struct Life;
  struct Pair {
    int answers = 0;
    uint64_t value = 0;
    bool corrupted = false;
  };

  // LinkPoolObserver.
  void OnLinkDown(WorkerId worker, const absl::Status& why) override;
  void OnLinkUp(WorkerId worker, const std::string& path) override;

  void Session();
  void TakeView(const v1::PoolView& view);
  void Report();
  void ReportLoop();
  void IdleLoop();
  void Turn(TimePoint now);
  void StartConnect(const PoolLinks::ConnectJob& job);

  void BeginStep();
  void BeginLayer();
  void Wake();
  void Run();
  void FinishLayer(TimePoint now);
  void GiveUp(TimePoint now);
  void SendAsks(TimePoint now);
  void SendAsk(const Ask& ask, TimePoint now);
  void Take(const PoolEvent& event, TimePoint now);
  void TakeCombine(const PoolEvent& event, TimePoint now);
  void Compare(WorkerId worker, ExpertId expert, size_t slot, uint64_t value);
  void CheckOwed();
  void CheckLayer(TimePoint now);
  void CheckLate(TimePoint now);
  bool Healthy(WorkerId worker, TimePoint since) const;

  World& world_;
  const SimulatedRouterOptions options_;
  Process process_;
  Random random_;
  InstanceId instance_;
  int64_t steps_done_ = 0;
  int64_t steps_given_up_ = 0;
  int64_t layers_done_ = 0;
  TimePoint last_step_;
  Duration longest_layer_{0};
  LayerStatistics statistics_;
  std::unique_ptr<Life> life_;
};

}  // namespace sheaf::simulation
