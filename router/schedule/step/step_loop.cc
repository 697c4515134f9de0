#include "router/schedule/step/step_loop.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"

namespace sheaf {
namespace {

constexpr std::chrono::seconds kIdleWait{1};

Duration FromMs(double ms) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(ms));
}

// Of the calling thread.
Duration ThreadCpuTime() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

bool IsGivenUp(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsAborted(status);
}

}  // namespace

StepLoop::StepLoop(const EngineOptions& options, const EngineParts& parts,
                   const ClusterGate& cluster, RequestLedger& ledger)
    : options_(options),
      parts_(parts),
      cluster_(cluster),
      ledger_(ledger),
      second_tier_(parts.block_store == nullptr
                       ? std::nullopt
                       : std::optional<SecondTier>(std::in_place, *parts.block_store, *parts.cache,
                                                   *parts.clock, options.prefix_cache.copy_time)),
      cache_(options.prefix_cache, parts.cache->num_blocks(), parts.cache->block_size(),
             second_tier_.has_value() ? &*second_tier_ : nullptr),
      planner_({options.max_num_seqs, options.max_num_batched_tokens, parts.cache->block_size(),
                options.target_step_ms},
               options.experts),
      runner_(*parts.decoder, *parts.pool),
      retry_(options.retry),
      speculator_(options.speculation),
      in_flight_(ledger, *parts.clock,
                 {[this](TimePoint now) {
                    EndWhatIsOver(now);
                    delivery_.Flush();
                  },
                  [this](Sequence& sequence) { Release(sequence); }}),
      delivery_({.threads = options.delivery_threads}, *parts.observer,
                [&ledger](SequenceId id) { ledger.StopStringFound(id); }),
      free_blocks_(cache_.num_free()) {
  SHEAF_CHECK(options.max_num_batched_tokens <= parts.decoder->options().max_batched_tokens,
              "the decoder's scratch holds every step");
  SHEAF_CHECK(options.max_model_len <= parts.decoder->options().max_model_len,
              "the decoder knows every position");
}

void StepLoop::Run() {
  for (;;) {
    const TimePoint now = parts_.clock->Now();
    awake_since_.store(now, std::memory_order_release);
    const bool goes_on = EndWhatIsOver(now);
    HandOver();
    ForgetIfWanted();
    ReportLoad();
    if (!goes_on) return delivery_.Drain();
    // Looked at also with nothing to do: whoever was ready once takes requests from then on.
    const absl::Status cluster = cluster_.Look();
    if (running_.empty() && !ledger_.HasQueued()) {
      retry_.Idle();
      Wait(kIdleWait);
    } else if (retry_.MayStep(cluster, now)) {
      Step(now);
      HandOver();
    } else {
      EndStalled(now);
      Wait(retry_.LookAgainIn(now));
    }
  }
}

void StepLoop::Wait(Duration at_most) {
  delivery_.Flush();
  // Nothing to compute: the cores belong to others.
  parts_.pool->Park();
  awake_since_.store(TimePoint::max(), std::memory_order_release);
  if (ledger_.Wait(at_most)) retry_.ClusterChanged();
}

// What clients are to be told now. Waits where delivery is too far behind.
void StepLoop::HandOver() {
  delivery_.Flush();
  if (!delivery_.TooFarBehind()) return;
  parts_.pool->Park();
  delivery_.WaitUntilCaughtUp();
}

void StepLoop::ReportLoad() {
  EngineLoad load = ledger_.load();
  load.running = static_cast<int>(running_.size());
  load.total_blocks = cache_.num_blocks();
  load.used_blocks = cache_.num_blocks() - cache_.num_free();
  load.cached_blocks = cache_.num_cached();
  parts_.observer->OnLoad(load);
  parts_.observer->OnQueue(ledger_.queue());
  if (second_tier_.has_value()) ReportSecondTier();
}

void StepLoop::ReportSecondTier() {
  const SecondTier::Figures now = second_tier_->figures();
  const SecondTier::Figures before = std::exchange(second_tier_told_, now);
  parts_.observer->OnSecondTier({.held = now.held,
                                 .kept = now.kept - before.kept,
                                 .lost = now.lost - before.lost,
                                 .loaded = now.loaded - before.loaded,
                                 .failed = now.failed - before.failed,
                                 .remark = second_tier_->TakeRemark()});
}

bool StepLoop::StepIsMoot() {
  in_flight_.Look();
  return in_flight_.all_over();
}

void StepLoop::Release(Sequence& sequence) {
  cache_.Free(sequence.prefix, sequence.blocks);
  free_blocks_.store(cache_.num_free(), std::memory_order_release);
}

void StepLoop::Finish(std::unique_ptr<Sequence> sequence, FinishReason reason, absl::Status status,
                      bool guide_error) {
  speculator_.Forget(sequence->id());
  const bool is_computed = in_flight_.Has(*sequence);
  if (!is_computed) Release(*sequence);
  ledger_.Ended(sequence->id());
  Ending ending;
  ending.reason = reason;
  ending.status = std::move(status);
  ending.cached_tokens = sequence->cached_tokens;
  ending.guide_error = guide_error;
  ending.at = parts_.clock->Now();
  ending.queued = sequence->admitted.value_or(ending.at) - sequence->submitted();
  delivery_.Add(sequence->teller(), std::move(ending));
  if (is_computed) in_flight_.Bury(std::move(sequence));
}

std::vector<std::unique_ptr<Sequence>> StepLoop::TakeRunningIf(
    const std::function<bool(const Sequence&)>& condition) {
  std::vector<std::unique_ptr<Sequence>> taken;
  for (std::unique_ptr<Sequence>& sequence : running_) {
    if (condition(*sequence)) taken.push_back(std::move(sequence));
  }
  std::erase(running_, nullptr);
  return taken;
}

// Queued ones first.
std::vector<std::unique_ptr<Sequence>> StepLoop::TakeAllIf(
    const std::function<bool(const Sequence&)>& condition) {
  std::vector<std::unique_ptr<Sequence>> taken = ledger_.TakeIf(condition);
  for (auto& sequence : TakeRunningIf(condition)) taken.push_back(std::move(sequence));
  return taken;
}

std::unique_ptr<Sequence> StepLoop::TakeRunning(SequenceId id) {
  const auto found = std::find_if(running_.begin(), running_.end(),
                                  [&](const auto& sequence) { return sequence->id() == id; });
  std::unique_ptr<Sequence> sequence = std::move(*found);
  running_.erase(found);
  return sequence;
}

// Those whose clients have had their end, by a stop string; preempted ones wait in the queue.
void StepLoop::EndStopped() {
  const std::unordered_set<SequenceId> stopped = ledger_.TakeStopped();
  if (stopped.empty()) return;
  for (auto& sequence :
       TakeAllIf([&](const Sequence& each) { return stopped.contains(each.id()); })) {
    Finish(std::move(sequence), FinishReason::kStop, absl::OkStatus());
  }
}

// Cancelled and late sequences, queued or running. False when the engine has stopped and nothing is
// left.
bool StepLoop::EndWhatIsOver(TimePoint now) {
  EndStopped();
  EndWaitingOver(now);
  const std::unordered_set<SequenceId> cancelled = ledger_.TakeCancelled();
  std::vector<std::unique_ptr<Sequence>> over = TakeRunningIf([&](const Sequence& sequence) {
    return cancelled.contains(sequence.id()) ||
           sequence.request().deadline.value_or(TimePoint::max()) <= now;
  });
  for (std::unique_ptr<Sequence>& sequence : over) {
    if (cancelled.contains(sequence->id())) {
      Finish(std::move(sequence), FinishReason::kCancelled, absl::OkStatus());
    } else {
      EndExpired(std::move(sequence));
    }
  }
  const std::optional<TimePoint> stop = ledger_.stop_at();
  if (!stop.has_value()) return true;
  if (now >= *stop) {
    for (auto& sequence : TakeAllIf([](const Sequence&) { return true; })) {
      Finish(std::move(sequence), FinishReason::kError,
             absl::UnavailableError("the server is shutting down"));
    }
  }
  return !running_.empty() || ledger_.HasQueued();
}

// Those that have waited for the cluster for max_unready_wait.
void StepLoop::EndStalled(TimePoint now) {
  const std::optional<TimePoint> since = retry_.stalled_since();
  if (!since.has_value() || now - *since < options_.max_unready_wait) return;
  const absl::Status status = absl::UnavailableError(std::string(retry_.cause().message()));
  for (auto& sequence : TakeAllIf([&](const Sequence& waiting) {
         return now - std::max(*since, waiting.submitted()) >= options_.max_unready_wait;
       })) {
    Finish(std::move(sequence), FinishReason::kError, status);
  }
}

void StepLoop::Step(TimePoint now) {
  if (second_tier_.has_value()) second_tier_->BeginStep();
  if (parts_.cache_lost && parts_.cache_lost()) ComputeAllAgain(now);
  const int displaced = MakeRoom(now);
  ++step_;
  const Planned planned = Plan(now);
  const StepPlan& plan = planned.plan;
  Apply(plan, now);
  if (runs_.empty()) {
    // What was taken away counts in the next plan; all that waited may have been too late.
    SHEAF_CHECK(!plan.preempted.empty() || planned.restoring || planned.nobody,
                "the most senior sequence always fits the cache");
    return;
  }

  StepReport report;
  report.step = StepId(step_);
  report.sequences = static_cast<int>(runs_.size());
  report.preempted = static_cast<int>(plan.preempted.size());
  report.displaced = displaced;
  report.evicted_blocks = static_cast<int>(cache_.num_evicted() -
                                           std::exchange(evicted_reported_, cache_.num_evicted()));
  report.predicted = FromMs(planner_.predicted_ms());
  report.target = FromMs(plan.target_ms);
  const absl::Status status = RunStep(report);
  const TimePoint end = parts_.clock->Now();
  report.duration = end - now;
  report.status = status;
  parts_.observer->OnStep(report);

  if (report.given_up) {
    retry_.StepGivenUp(status, report.give_up_cause == GiveUpCause::kMoot, now, end);
    EndStalled(end);
    return;
  }
  retry_.StepDone();
  if (status.ok()) {
    // A step that some of its rows left took less than what was planned costs.
    if (report.ended == 0) {
      planner_.StepDone(report.duration);
      if (report.prefill_tokens == 0) speculator_.StepRan(report.generated_tokens, report.duration);
    }
    Account(report);
    Deliver(end);
    return;
  }
  // Their part of the cache is undefined; none of them got a token of this step.
  for (size_t i = 0; i < run_ids_.size(); ++i) {
    if (in_flight_.IsOver(static_cast<int>(i))) continue;
    Finish(TakeRunning(run_ids_[i]), FinishReason::kError, status);
  }
}

// The forward pass, and what there is to say of it.
absl::Status StepLoop::RunStep(StepReport& report) {
  for (const SequenceRun& run : runs_) {
    const bool decode = run.sequence->prefilled || run.num_tokens == 1;
    (decode ? report.decode_tokens : report.prefill_tokens) += run.num_tokens;
  }
  in_flight_.Begin(runs_, parts_.clock->Now());
  report.scheduling_cpu = ThreadCpuTime() - forward_ended_;
  absl::Status status = runner_.Run(StepId(step_), runs_, in_flight_, results_);
  forward_ended_ = ThreadCpuTime();
  const bool moot = in_flight_.all_over();
  in_flight_.Close();
  report.ended = in_flight_.num_over();
  if (IsGivenUp(status)) {
    report.given_up = true;
    report.give_up_cause = moot ? GiveUpCause::kMoot : GiveUpCause::kUnavailable;
  } else if (status.ok()) {
    for (const SequenceResult& result : results_) {
      if (!result.status.ok()) continue;
      const NextTokens& next = result.next;
      report.generated_tokens += static_cast<int>(next.tokens.size());
      report.forced_tokens +=
          static_cast<int>(std::count(next.forced.begin(), next.forced.end(), true));
    }
    for (size_t i = 0; i < runs_.size(); ++i) {
      if (!in_flight_.IsOver(static_cast<int>(i))) CountDraft(runs_[i], results_[i], report);
    }
  }
  return status;
}

void StepLoop::Deliver(TimePoint now) {
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (in_flight_.IsOver(static_cast<int>(i))) continue;
    Sequence& sequence = *runs_[i].sequence;
    SequenceResult& result = results_[i];
    sequence.Advance(runs_[i].num_tokens);
    if (!result.status.ok()) {
      // What is not finite came from somewhere: no one else shall read of it.
      if (absl::IsInternal(result.status)) cache_.Forget();
      Finish(TakeRunning(sequence.id()), FinishReason::kError, std::move(result.status),
             result.next.guide_error);
      continue;
    }
    const std::shared_ptr<OutputTeller> teller = sequence.teller();
    if (auto piece = sequence.TakePromptLogprobs()) delivery_.Add(teller, *std::move(piece));
    std::optional<FinishReason> end;
    size_t t = 0;
    for (; t < result.next.tokens.size() && !end.has_value(); ++t) {
      end = sequence.Accept(result.next.tokens[t]);
      NewToken told;
      told.token = result.next.tokens[t];
      told.forced = result.next.forced[t];
      told.stops = end == FinishReason::kStop;
      told.cached_tokens = sequence.cached_tokens;
      told.queued = sequence.admitted.value_or(now) - sequence.submitted();
      told.at = now;
      if (!result.logprobs.empty()) told.logprobs = std::move(result.logprobs[t]);
      delivery_.Add(teller, std::move(told));
      // Without threads of delivery a stop string is known at once.
      if (options_.delivery_threads == 0 && teller->ended()) end = FinishReason::kStop;
    }
    if (result.next.ended && !end.has_value()) end = FinishReason::kStop;
    sequence.AdvanceOverDraft(std::min(result.drafts_accepted, static_cast<int>(t)));
    cache_.Publish(sequence.prefix, sequence.request().cache_salt, sequence.tokens(),
                   sequence.computed_tokens, sequence.blocks);
    if (end.has_value()) Finish(TakeRunning(sequence.id()), *end, absl::OkStatus());
  }
}

}  // namespace sheaf
