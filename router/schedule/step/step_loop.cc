#include "router/schedule/step/step_loop.h"

#include <algorithm>
#include <chrono>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "router/schedule/step/cache_view.h"

namespace sheaf {
namespace {

constexpr std::chrono::seconds kIdleWait{1};

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
      second_tier_(parts.block_store == nullptr
                       ? std::nullopt
                       : std::optional<SecondTier>(std::in_place, *parts.block_store, *parts.cache,
                                                   *parts.clock, options.prefix_cache.copy_time)),
      cache_(options.prefix_cache, parts.cache->num_blocks(), parts.cache->block_size(),
             second_tier_.has_value() ? &*second_tier_ : nullptr),
      runner_(*parts.decoder, *parts.pool),
      retry_(options.retry),
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
    ForgetIfWanted();
    ReportLoad();
    if (!goes_on) return;
    // Looked at also with nothing to do: whoever was ready once takes requests from then on.
    const absl::Status cluster = cluster_.Look();
    if (running_.empty() && !ledger_.HasQueued()) {
      retry_.Idle();
      Wait(kIdleWait);
    } else if (retry_.MayStep(cluster, now)) {
      Step(now);
    } else {
      EndStalled(now);
      Wait(retry_.LookAgainIn(now));
    }
  }
}

void StepLoop::Wait(Duration at_most) {
  // Nothing to compute: the cores belong to others.
  parts_.pool->Park();
  awake_since_.store(TimePoint::max(), std::memory_order_release);
  if (ledger_.Wait(at_most)) retry_.ClusterChanged();
}

void StepLoop::ReportLoad() {
  EngineLoad load;
  load.queued = ledger_.num_queued();
  load.running = static_cast<int>(running_.size());
  load.total_blocks = cache_.num_blocks();
  load.used_blocks = cache_.num_blocks() - cache_.num_free();
  load.cached_blocks = cache_.num_cached();
  parts_.observer->OnLoad(load);
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

void StepLoop::Finish(std::unique_ptr<Sequence> sequence, FinishReason reason, absl::Status status,
                      bool guide_error) {
  cache_.Free(sequence->prefix, sequence->blocks);
  free_blocks_.store(cache_.num_free(), std::memory_order_release);
  ledger_.Ended(sequence->id());
  const TimePoint now = parts_.clock->Now();
  RequestReport report;
  report.reason = reason;
  report.code = status.code();
  report.prompt_tokens = sequence->prompt_tokens();
  report.completion_tokens = sequence->output_tokens();
  report.prior_tokens = sequence->prior_tokens();
  const GuidePlan* plan = sequence->request().guide.get();
  report.guided = plan != nullptr && plan->constrains();
  report.guide_error = guide_error;
  report.queued = sequence->admitted.value_or(now) - sequence->submitted();
  report.total = now - sequence->submitted();
  parts_.observer->OnRequestEnd(report);
  sequence->End(reason, std::move(status));
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

// Cancelled and late sequences, queued or running. False when the engine has stopped and nothing is
// left.
bool StepLoop::EndWhatIsOver(TimePoint now) {
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

bool StepLoop::ForgetIfWanted() {
  const bool wanted = reset_wanted_.exchange(false, std::memory_order_acq_rel);
  if (wanted) cache_.Forget();
  return wanted;
}

// Who shall run, in the state as it is.
StepLoop::Planned StepLoop::Plan() {
  std::vector<RunningSequence> running_view;
  for (const auto& sequence : running_) {
    running_view.push_back({sequence->id(), sequence->total_tokens(), sequence->computed_tokens,
                            static_cast<int>(sequence->blocks.size()), sequence->last_step,
                            sequence->prefilled,
                            cache_.NumShared(sequence->prefix, sequence->blocks)});
  }
  CacheView view(cache_, running_);
  const std::vector<QueuedSequence> queued_view = ledger_.PeekQueued(
      std::max(0, options_.max_num_seqs - static_cast<int>(running_.size())),
      [&](Sequence& sequence, QueuedSequence& queued) { view.Describe(sequence, queued); });
  // Whoever asked for it before a request that is in this view came must not see it served.
  if (ForgetIfWanted()) return Plan();
  return {PlanStep({running_view, queued_view, cache_.num_free(), cache_.num_blocks()}, limits_),
          view.restoring()};
}

void StepLoop::Preempt(std::span<const SequenceId> ids) {
  for (const SequenceId id : ids) {
    std::unique_ptr<Sequence> sequence = TakeRunning(id);
    cache_.Free(sequence->prefix, sequence->blocks);
    sequence->Restart();
    ledger_.Return(std::move(sequence));
  }
}

void StepLoop::Admit(SequenceId id, TimePoint now) {
  running_.push_back(ledger_.Take(id, now));
  Sequence& sequence = *running_.back();
  const int most = sequence.reusable_tokens() / cache_.block_size();
  sequence.computed_tokens =
      cache_.Take(sequence.prefix, most, sequence.blocks) * cache_.block_size();
  if (sequence.admitted.has_value()) return;
  sequence.admitted = now;
  sequence.cached_tokens = std::min(sequence.computed_tokens, sequence.prompt_tokens());
  if (cache_.enabled()) {
    parts_.observer->OnPrefixLookup(sequence.total_tokens(), sequence.computed_tokens);
  }
}

// Preempts, admits and allocates as planned; fills runs_.
void StepLoop::Apply(const StepPlan& plan, TimePoint now) {
  Preempt(plan.preempted);
  // All of them take what is cached before anybody's new blocks can evict it.
  for (const SequenceId id : plan.admitted) Admit(id, now);
  std::unordered_map<SequenceId, Sequence*> by_id;
  for (const auto& sequence : running_) by_id[sequence->id()] = sequence.get();
  runs_.clear();
  run_ids_.clear();
  for (const StepPlan::Run& run : plan.runs) {
    Sequence* sequence = by_id.at(run.id);
    sequence->last_step = step_;
    const bool allocated = cache_.Allocate(run.new_blocks, sequence->blocks);
    SHEAF_CHECK(allocated, "a plan needs no more blocks than are free");
    runs_.push_back({sequence, run.num_tokens});
    run_ids_.push_back(run.id);
  }
  free_blocks_.store(cache_.num_free(), std::memory_order_release);
}

void StepLoop::Step(TimePoint now) {
  if (second_tier_.has_value()) second_tier_->BeginStep();
  Planned planned = Plan();
  const StepPlan& plan = planned.plan;
  int preempted = static_cast<int>(plan.preempted.size());
  while (plan.runs.empty() && !plan.preempted.empty()) {
    // They shared blocks with each other: what that frees shows only when they are gone.
    Preempt(plan.preempted);
    planned = Plan();
    preempted += static_cast<int>(plan.preempted.size());
  }
  if (plan.runs.empty() && planned.restoring) return;
  ++step_;
  Apply(plan, now);
  SHEAF_CHECK(!runs_.empty(), "the oldest sequence always fits the cache");

  StepReport report;
  report.step = StepId(step_);
  report.sequences = static_cast<int>(runs_.size());
  report.preempted = preempted;
  report.evicted_blocks =
      static_cast<int>(cache_.num_evicted() - std::exchange(evicted_reported_, cache_.num_evicted()));
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
  absl::Status status = runner_.Run(StepId(step_), runs_, results_);
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
    if (result.status.ok()) {
      cache_.Publish(sequence.prefix, sequence.request().cache_salt, sequence.tokens(),
                     sequence.computed_tokens, sequence.blocks);
    } else {
      // What is not finite came from somewhere: no one else shall read of it.
      if (absl::IsInternal(result.status)) cache_.Forget();
      Finish(TakeRunning(sequence.id()), FinishReason::kError, std::move(result.status),
             result.next.guide_error);
      continue;
    }
    std::optional<FinishReason> end;
    if (result.next.ended) end = sequence.AcceptEnd();
    bool forced = !result.next.sampled;
    for (const TokenId token : result.next.tokens) {
      if (sequence.last_token.has_value()) {
        parts_.observer->OnNextToken(now - *sequence.last_token);
      } else {
        parts_.observer->OnFirstToken(now - sequence.submitted());
      }
      sequence.last_token = now;
      end = sequence.Accept(token, std::exchange(result.logprobs, {}), forced);
      if (end.has_value()) break;
      forced = true;
    }
    if (end.has_value()) Finish(TakeRunning(sequence.id()), *end, absl::OkStatus());
  }
}

}  // namespace sheaf
