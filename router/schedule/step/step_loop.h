#pragma once
// StepLoop: what the engine's step thread does (engine.h): ends what is over, waits for the
// cluster, plans and runs steps, and hands their tokens to the sequences and to delivery/, once a
// step.
//
// A step given up leaves its sequences as they were: their tokens and blocks stay, computed_tokens
// does not move, guides, samplers and prompt log-probabilities are touched only after the last
// layer has succeeded (decoder.h), and whatever the step wrote into the cache lies at positions
// that are computed again before they are read. So the same tokens come out however often a step is
// run.
//
// Over       what is over in the middle of a step ends there (step_in_flight.h).
// Threads    Run: the step thread. free_kv_blocks, total_kv_blocks, awake_since: any.
// Ownership  borrows all but options.

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "router/schedule/queue/cluster_gate.h"
#include "router/schedule/engine.h"
#include "router/schedule/blocks/prefix_cache.h"
#include "router/schedule/blocks/second_tier.h"
#include "router/schedule/delivery/token_delivery.h"
#include "router/schedule/queue/request_ledger.h"
#include "router/schedule/speculation/speculator.h"
#include "router/schedule/plan/step_planner.h"
#include "router/schedule/step/sequence.h"
#include "router/schedule/step/step_in_flight.h"
#include "router/schedule/step/step_retry.h"
#include "router/schedule/step/step_runner.h"

namespace sheaf {

class CacheView;

class StepLoop {
 public:
  StepLoop(const EngineOptions& options, const EngineParts& parts, const ClusterGate& cluster,
           RequestLedger& ledger);

  // Returns when the engine has stopped and every request has ended.
  void Run();
  // Ends those in the queue that are cancelled or past their deadline; the running step is not
  // touched. The step thread, also in the middle of a step. Cost: one load when there are none.
  void EndWaitingOver(TimePoint now);

  // Before the next plan. Any thread.
  void ResetPrefixCache() { reset_wanted_.store(true, std::memory_order_release); }

  int total_kv_blocks() const { return cache_.num_blocks(); }
  int free_kv_blocks() const { return free_blocks_.load(std::memory_order_acquire); }
  // Of the step thread, from inside a step: looks who is over; whether all of the step are.
  bool StepIsMoot();
  // Of the step thread's round; max: at rest.
  TimePoint awake_since() const { return awake_since_.load(std::memory_order_acquire); }

 private:
  void EndStopped();
  bool EndWhatIsOver(TimePoint now);
  void EndStalled(TimePoint now);
  void EndExpired(std::unique_ptr<Sequence> sequence);
  // The head of the queue, for the plan.
  std::vector<QueuedSequence> LookAtQueue(CacheView& view, TimePoint now);
  // Puts back those that have to yield to the next one in the queue (slot_turns.h); how many.
  int MakeRoom(TimePoint now);
  void PutBack(SequenceId id, FairOrder::ComesBack how, TimePoint now);
  void Admit(std::span<const SequenceId> ids, TimePoint now);
  // Tells the queue what a step has done that succeeded.
  void Account(const StepReport& report);
  void Step(TimePoint now);
  absl::Status RunStep(StepReport& report);
  struct Planned {
    StepPlan plan;
    bool restoring = false;  // cache_view.h
    bool nobody = false;     // neither runs nor waits
  };
  Planned Plan(TimePoint now);
  bool ForgetIfWanted();
  // Nothing that was computed is there any more.
  void ComputeAllAgain(TimePoint now);
  // Preempts, admits and allocates as planned; fills runs_.
  void Apply(const StepPlan& plan, TimePoint now);
  void AddDrafts(int planned_tokens);
  void CountDraft(const SequenceRun& run, const SequenceResult& result, StepReport& report);
  void Deliver(TimePoint now);
  void Release(Sequence& sequence);
  void Finish(std::unique_ptr<Sequence> sequence, FinishReason reason, absl::Status status,
              bool guide_error = false);
  std::vector<std::unique_ptr<Sequence>> TakeAllIf(
      const std::function<bool(const Sequence&)>& condition);
  std::vector<std::unique_ptr<Sequence>> TakeRunningIf(
      const std::function<bool(const Sequence&)>& condition);
  std::unique_ptr<Sequence> TakeRunning(SequenceId id);
  void ReportLoad();
  void ReportSecondTier();
  void Wait(Duration at_most);
  void HandOver();

  const EngineOptions& options_;
  const EngineParts& parts_;
  const ClusterGate& cluster_;
  RequestLedger& ledger_;

  std::optional<SecondTier> second_tier_;
  SecondTier::Figures second_tier_told_;
  PrefixCache cache_;
  uint64_t evicted_reported_ = 0;
  std::atomic<bool> reset_wanted_{false};
  StepPlanner planner_;
  StepRunner runner_;
  StepRetry retry_;
  Speculator speculator_;
  StepInFlight in_flight_;
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
