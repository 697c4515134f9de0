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
      limits_{options.max_num_seqs, options.max_num_batched_tokens, parts.cache->block_size()},
      allocator_(parts.cache->num_blocks()),
      runner_(*parts.decoder, *parts.pool),
      retry_(options.retry),
      delivery_({.threads = options.delivery_threads}, *parts.observer,
                [&ledger](SequenceId id) { ledger.StopStringFound(id); }),
      free_blocks_(allocator_.num_free()) {
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
  EngineLoad load;
  load.queued = ledger_.num_queued();
  load.running = static_cast<int>(running_.size());
  load.total_blocks = allocator_.num_blocks();
  load.used_blocks = allocator_.num_blocks() - allocator_.num_free();
  parts_.observer->OnLoad(load);
}

void StepLoop::Finish(std::unique_ptr<Sequence> sequence, FinishReason reason, absl::Status status,
                      bool guide_error) {
  allocator_.Free(sequence->blocks);
  free_blocks_.store(allocator_.num_free(), std::memory_order_release);
  ledger_.Ended(sequence->id());
  Ending ending;
  ending.reason = reason;
  ending.status = std::move(status);
  ending.guide_error = guide_error;
  ending.at = parts_.clock->Now();
  ending.queued = sequence->admitted.value_or(ending.at) - sequence->submitted();
  delivery_.Add(sequence->teller(), std::move(ending));
}

// Queued ones first.
std::vector<std::unique_ptr<Sequence>> StepLoop::TakeAllIf(
    const std::function<bool(const Sequence&)>& condition) {
  std::vector<std::unique_ptr<Sequence>> taken = ledger_.TakeIf(condition);
  for (std::unique_ptr<Sequence>& sequence : running_) {
    if (condition(*sequence)) taken.push_back(std::move(sequence));
  }
  std::erase(running_, nullptr);
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
  const std::unordered_set<SequenceId> cancelled = ledger_.TakeCancelled();
  std::vector<std::unique_ptr<Sequence>> over = TakeAllIf([&](const Sequence& sequence) {
    return cancelled.contains(sequence.id()) ||
           sequence.request().deadline.value_or(TimePoint::max()) <= now;
  });
  for (std::unique_ptr<Sequence>& sequence : over) {
    if (cancelled.contains(sequence->id())) {
      Finish(std::move(sequence), FinishReason::kCancelled, absl::OkStatus());
    } else {
      const std::string where = sequence->admitted.has_value()
                                    ? absl::StrFormat("after %d tokens", sequence->output_tokens())
                                    : std::string("while it waited in the queue");
      Finish(std::move(sequence), FinishReason::kError,
             absl::DeadlineExceededError("the request's deadline passed " + where));
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

// Preempts, admits and allocates as planned; fills runs_.
void StepLoop::Apply(const StepPlan& plan, TimePoint now) {
  for (SequenceId id : plan.preempted) {
    std::unique_ptr<Sequence> sequence = TakeRunning(id);
    allocator_.Free(sequence->blocks);
    sequence->Restart();
    ledger_.Return(std::move(sequence));
  }
  for (int i = 0; i < plan.num_admitted; ++i) {
    running_.push_back(ledger_.TakeFront(now));
    if (!running_.back()->admitted.has_value()) running_.back()->admitted = now;
  }
  std::unordered_map<SequenceId, Sequence*> by_id;
  for (const auto& sequence : running_) by_id[sequence->id()] = sequence.get();
  runs_.clear();
  run_ids_.clear();
  for (const StepPlan::Run& run : plan.runs) {
    Sequence* sequence = by_id.at(run.id);
    sequence->last_step = step_;
    const bool allocated = allocator_.Allocate(run.new_blocks, sequence->blocks);
    SHEAF_CHECK(allocated, "a plan needs no more blocks than are free");
    runs_.push_back({sequence, run.num_tokens});
    run_ids_.push_back(run.id);
  }
  free_blocks_.store(allocator_.num_free(), std::memory_order_release);
}

void StepLoop::Step(TimePoint now) {
  std::vector<RunningSequence> running_view;
  for (const auto& sequence : running_) {
    running_view.push_back({sequence->id(), sequence->total_tokens(), sequence->computed_tokens,
                            static_cast<int>(sequence->blocks.size()), sequence->last_step,
                            sequence->prefilled});
  }
  const std::vector<QueuedSequence> queued_view =
      ledger_.PeekQueued(std::max(0, options_.max_num_seqs - static_cast<int>(running_.size())));
  const StepPlan plan = PlanStep(
      {running_view, queued_view, allocator_.num_free(), allocator_.num_blocks()}, limits_);
  ++step_;
  Apply(plan, now);
  SHEAF_CHECK(!runs_.empty(), "the oldest sequence always fits the cache");

  StepReport report;
  report.step = StepId(step_);
  report.sequences = static_cast<int>(runs_.size());
  report.preempted = static_cast<int>(plan.preempted.size());
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
    Deliver(end);
    return;
  }
  // Their part of the cache is undefined; none of them got a token of this step.
  for (const SequenceId id : run_ids_) Finish(TakeRunning(id), FinishReason::kError, status);
}

// The forward pass, and what there is to say of it.
absl::Status StepLoop::RunStep(StepReport& report) {
  TimePoint deadline = TimePoint::max();
  for (const SequenceRun& run : runs_) {
    const bool decode = run.sequence->prefilled || run.num_tokens == 1;
    (decode ? report.decode_tokens : report.prefill_tokens) += run.num_tokens;
    deadline = std::min(deadline, run.sequence->request().deadline.value_or(TimePoint::max()));
  }
  ledger_.BeginStep(run_ids_, deadline);
  report.scheduling_cpu = ThreadCpuTime() - forward_ended_;
  absl::Status status = runner_.Run(StepId(step_), runs_, results_);
  forward_ended_ = ThreadCpuTime();
  const bool moot = ledger_.StepIsMoot();
  ledger_.EndStep();
  if (IsGivenUp(status)) {
    report.given_up = true;
    report.give_up_cause = moot ? GiveUpCause::kMoot : GiveUpCause::kUnavailable;
  } else if (status.ok()) {
    for (const SequenceResult& result : results_) {
      if (!result.status.ok()) continue;
      const int generated = static_cast<int>(result.next.tokens.size());
      report.generated_tokens += generated;
      report.forced_tokens += generated - result.next.sampled;
    }
  }
  return status;
}

void StepLoop::Deliver(TimePoint now) {
  for (size_t i = 0; i < runs_.size(); ++i) {
    Sequence& sequence = *runs_[i].sequence;
    SequenceResult& result = results_[i];
    sequence.Advance(runs_[i].num_tokens);
    if (!result.status.ok()) {
      Finish(TakeRunning(sequence.id()), FinishReason::kError, std::move(result.status),
             result.next.guide_error);
      continue;
    }
    const std::shared_ptr<OutputTeller> teller = sequence.teller();
    if (auto piece = sequence.TakePromptLogprobs()) delivery_.Add(teller, *std::move(piece));
    std::optional<FinishReason> end;
    if (result.next.ended) end = FinishReason::kStop;
    bool forced = !result.next.sampled;
    for (const TokenId token : result.next.tokens) {
      end = sequence.Accept(token);
      NewToken told;
      told.token = token;
      told.forced = std::exchange(forced, true);
      told.stops = end == FinishReason::kStop;
      told.at = now;
      told.logprobs = std::exchange(result.logprobs, {});
      delivery_.Add(teller, std::move(told));
      if (end.has_value()) break;
      // Without threads of delivery a stop string is known at once.
      if (options_.delivery_threads == 0 && teller->ended()) end = FinishReason::kStop;
      if (end.has_value()) break;
    }
    if (end.has_value()) Finish(TakeRunning(sequence.id()), *end, absl::OkStatus());
  }
}

}  // namespace sheaf
