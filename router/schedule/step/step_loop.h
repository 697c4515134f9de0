#pragma once
// StepLoop: what the engine's step thread does (engine.h): ends what is over, waits for the cluster,
// plans and runs steps, and hands their tokens to the sequences and to delivery/, once a step.
//
// A step given up leaves its sequences as they were: their tokens and blocks stay, computed_tokens
// does not move, guides, samplers and prompt log-probabilities are touched only after the last
// layer has succeeded (decoder.h), and whatever the step wrote into the cache lies at positions that
// are computed again before they are read. So the same tokens come out however often a step is run.
//
// Threads    Run: the step thread. free_kv_blocks, total_kv_blocks, awake_since: any.
// Ownership  borrows all but options.

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "router/schedule/queue/cluster_gate.h"
#include "router/schedule/engine.h"
#include "router/schedule/blocks/kv_block_allocator.h"
#include "router/schedule/delivery/token_delivery.h"
#include "router/schedule/queue/request_ledger.h"
#include "router/schedule/plan/scheduler.h"
#include "router/schedule/step/sequence.h"
#include "router/schedule/step/step_retry.h"
#include "router/schedule/step/step_runner.h"

namespace sheaf {

class StepLoop {
 public:
  StepLoop(const EngineOptions& options, const EngineParts& parts, const ClusterGate& cluster,
           RequestLedger& ledger);

  // Returns when the engine has stopped and every request has ended.
  void Run();

  int total_kv_blocks() const { return allocator_.num_blocks(); }
  int free_kv_blocks() const { return free_blocks_.load(std::memory_order_acquire); }
  // Of the step thread's round; max: at rest.
  TimePoint awake_since() const { return awake_since_.load(std::memory_order_acquire); }

 private:
  void EndStopped();
  bool EndWhatIsOver(TimePoint now);
  void EndStalled(TimePoint now);
  void Step(TimePoint now);
  absl::Status RunStep(StepReport& report);
  void Apply(const StepPlan& plan, TimePoint now);
  void Deliver(TimePoint now);
  void Finish(std::unique_ptr<Sequence> sequence, FinishReason reason, absl::Status status,
              bool guide_error = false);
  std::vector<std::unique_ptr<Sequence>> TakeAllIf(
      const std::function<bool(const Sequence&)>& condition);
  std::unique_ptr<Sequence> TakeRunning(SequenceId id);
  void ReportLoad();
  void Wait(Duration at_most);
  void HandOver();

  const EngineOptions& options_;
  const EngineParts& parts_;
  const ClusterGate& cluster_;
  RequestLedger& ledger_;
  const SchedulerLimits limits_;

  KvBlockAllocator allocator_;
  StepRunner runner_;
  StepRetry retry_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
  uint64_t step_ = 0;
  Duration forward_ended_{0};  // the last one, in this thread's CPU time
  std::vector<SequenceRun> runs_;
  std::vector<SequenceId> run_ids_;
  std::vector<SequenceResult> results_;

  TokenDelivery delivery_;
  std::atomic<int> free_blocks_;
  std::atomic<TimePoint> awake_since_{TimePoint::max()};
};

}  // namespace sheaf
