#include "router/schedule/engine.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "router/schedule/admission.h"
#include "router/schedule/kv_block_allocator.h"
#include "router/schedule/scheduler.h"
#include "router/schedule/sequence.h"
#include "router/schedule/step_runner.h"

namespace sheaf {
namespace {

// How long the step thread sleeps at most: while work waits for the cluster, and with nothing to
// do.
constexpr std::chrono::milliseconds kUnreadyPoll{50};
constexpr std::chrono::seconds kIdleWait{1};

// Runs of a grammar spell a text in one way; a request that names token ids itself may want another.
bool NamesTokens(const GenerationRequest& request) {
  return !request.sampling.logit_bias.empty() || !request.sampling.allowed_token_ids.empty() ||
         !request.stop.stop_token_ids.empty() || !request.bad_words.empty();
}

absl::Status Unavailable(const absl::Status& cause) {
  return absl::UnavailableError(std::string(cause.message()));
}

Admission::Limits AdmissionLimits(const EngineOptions& options, const EngineParts& parts) {
  return {options.max_queued_requests, options.max_model_len, parts.cache->capacity_tokens(),
          parts.decoder->vocab_size()};
}

}  // namespace

struct Engine::Impl {
  Impl(EngineOptions engine_options, EngineParts engine_parts)
      : options(std::move(engine_options)),
        parts(std::move(engine_parts)),
        limits{options.max_num_seqs, options.max_num_batched_tokens, parts.cache->block_size()},
        admission(AdmissionLimits(options, parts)),
        allocator(parts.cache->num_blocks()),
        runner(*parts.decoder, *parts.pool),
        free_blocks(allocator.num_free()) {
    SHEAF_CHECK(options.max_num_batched_tokens <= parts.decoder->options().max_batched_tokens,
                "the decoder's scratch holds every step");
    SHEAF_CHECK(options.max_model_len <= parts.decoder->options().max_model_len,
                "the decoder knows every position");
  }

  absl::Status ClusterStatus() const {
    return parts.cluster_ready ? parts.cluster_ready() : absl::OkStatus();
  }

  void Loop();
  bool EndWhatIsOver(TimePoint now);
  bool ClusterReady(TimePoint now);
  void Step(TimePoint now);
  void Apply(const StepPlan& plan, TimePoint now);
  void Deliver(std::span<const SequenceRun> runs, TimePoint now);
  void Finish(std::unique_ptr<Sequence> sequence, FinishReason reason, absl::Status status,
              bool guide_error = false);
  void FinishAll(const absl::Status& status);
  std::unique_ptr<Sequence> TakeRunning(SequenceId id);
  void ReportLoad();
  void Wait(std::chrono::steady_clock::duration at_most);
  void WakeUp();

  const EngineOptions options;
  const EngineParts parts;
  const SchedulerLimits limits;

  mutable std::mutex mutex;
  std::condition_variable wake;
  bool woken = false;                        // guarded by mutex
  Admission admission;                       // guarded by mutex; only the step thread takes from it
  std::unordered_set<SequenceId> live;       // guarded by mutex: submitted and not ended
  std::unordered_set<SequenceId> cancelled;  // guarded by mutex: of live ones
  std::optional<TimePoint> stop_at;          // guarded by mutex; set: draining
  uint64_t next_id = 1;                      // guarded by mutex

  // Of the step thread.
  KvBlockAllocator allocator;
  StepRunner runner;
  std::vector<std::unique_ptr<Sequence>> running;  // in order of admission
  uint64_t step = 0;
  std::optional<TimePoint> unready_since;
  std::vector<SequenceRun> runs;
  std::vector<SequenceResult> results;

  std::atomic<int> free_blocks;
  std::atomic<TimePoint> awake_since{TimePoint::max()};  // of the step thread's round; max: at rest
  std::mutex join_mutex;
  std::thread thread;
};

void Engine::Impl::WakeUp() {
  {
    std::lock_guard lock(mutex);
    woken = true;
  }
  wake.notify_one();
}

void Engine::Impl::Wait(std::chrono::steady_clock::duration at_most) {
  // Nothing to compute: the cores belong to others.
  parts.pool->Park();
  awake_since.store(TimePoint::max(), std::memory_order_release);
  std::unique_lock lock(mutex);
  wake.wait_for(lock, at_most, [&] { return woken; });
  woken = false;
}

void Engine::Impl::ReportLoad() {
  EngineLoad load;
  {
    std::lock_guard lock(mutex);
    load.queued = admission.size();
  }
  load.running = static_cast<int>(running.size());
  load.total_blocks = allocator.num_blocks();
  load.used_blocks = allocator.num_blocks() - allocator.num_free();
  parts.observer->OnLoad(load);
}

void Engine::Impl::Finish(std::unique_ptr<Sequence> sequence, FinishReason reason,
                          absl::Status status, bool guide_error) {
  allocator.Free(sequence->blocks);
  free_blocks.store(allocator.num_free(), std::memory_order_release);
  {
    std::lock_guard lock(mutex);
    live.erase(sequence->id());
    cancelled.erase(sequence->id());
  }
  const TimePoint now = parts.clock->Now();
  RequestReport report;
  report.reason = reason;
  report.code = status.code();
  report.prompt_tokens = sequence->prompt_tokens();
  report.completion_tokens = sequence->output_tokens();
  const GuidePlan* plan = sequence->request().guide.get();
  report.guided = plan != nullptr && plan->constrains();
  report.guide_error = guide_error;
  report.queued = sequence->admitted.value_or(now) - sequence->submitted();
  report.total = now - sequence->submitted();
  parts.observer->OnRequestEnd(report);
  sequence->End(reason, std::move(status));
}

void Engine::Impl::FinishAll(const absl::Status& status) {
  std::vector<std::unique_ptr<Sequence>> all = std::exchange(running, {});
  {
    std::lock_guard lock(mutex);
    for (std::unique_ptr<Sequence>& sequence :
         admission.TakeIf([](const Sequence&) { return true; })) {
      all.push_back(std::move(sequence));
    }
  }
  for (std::unique_ptr<Sequence>& sequence : all) {
    Finish(std::move(sequence), FinishReason::kError, status);
  }
}

std::unique_ptr<Sequence> Engine::Impl::TakeRunning(SequenceId id) {
  const auto found = std::find_if(running.begin(), running.end(),
                                  [&](const auto& sequence) { return sequence->id() == id; });
  std::unique_ptr<Sequence> sequence = std::move(*found);
  running.erase(found);
  return sequence;
}

// Cancelled and late sequences, queued or running. False when the engine has stopped and nothing is
// left.
bool Engine::Impl::EndWhatIsOver(TimePoint now) {
  std::vector<std::unique_ptr<Sequence>> over;
  std::unordered_set<SequenceId> gone;
  std::optional<TimePoint> stop;
  {
    std::lock_guard lock(mutex);
    gone = std::exchange(cancelled, {});
    stop = stop_at;
    const auto is_over = [&](const Sequence& sequence) {
      return gone.contains(sequence.id()) ||
             sequence.request().deadline.value_or(TimePoint::max()) <= now;
    };
    over = admission.TakeIf(is_over);
    for (std::unique_ptr<Sequence>& sequence : running) {
      if (is_over(*sequence)) over.push_back(std::move(sequence));
    }
  }
  std::erase(running, nullptr);
  for (std::unique_ptr<Sequence>& sequence : over) {
    if (gone.contains(sequence->id())) {
      Finish(std::move(sequence), FinishReason::kCancelled, absl::OkStatus());
    } else {
      const std::string where = sequence->admitted.has_value()
                                    ? absl::StrFormat("after %d tokens", sequence->output_tokens())
                                    : std::string("while it waited in the queue");
      Finish(std::move(sequence), FinishReason::kError,
             absl::DeadlineExceededError("the request's deadline passed " + where));
    }
  }
  if (!stop.has_value()) return true;
  if (now >= *stop) FinishAll(absl::UnavailableError("the server is shutting down"));
  std::lock_guard lock(mutex);
  return !running.empty() || !admission.empty();
}

// Whether a step may run now. After max_unready_wait everything that waits is given up.
bool Engine::Impl::ClusterReady(TimePoint now) {
  const absl::Status status = ClusterStatus();
  if (status.ok()) {
    unready_since.reset();
    return true;
  }
  if (!unready_since.has_value()) unready_since = now;
  if (now - *unready_since >= options.max_unready_wait) {
    FinishAll(Unavailable(status));
    unready_since.reset();
  }
  return false;
}

void Engine::Impl::Loop() {
  pthread_setname_np(pthread_self(), "sheaf-step");
  for (;;) {
    const TimePoint now = parts.clock->Now();
    awake_since.store(now, std::memory_order_release);
    const bool goes_on = EndWhatIsOver(now);
    ReportLoad();
    if (!goes_on) return;
    bool has_work = !running.empty();
    if (!has_work) {
      std::lock_guard lock(mutex);
      has_work = !admission.empty();
    }
    if (!has_work) {
      unready_since.reset();
      Wait(kIdleWait);
    } else if (ClusterReady(now)) {
      Step(now);
    } else {
      Wait(kUnreadyPoll);
    }
  }
}

// Preempts, admits and allocates as planned; fills `runs`.
void Engine::Impl::Apply(const StepPlan& plan, TimePoint now) {
  for (SequenceId id : plan.preempted) {
    std::unique_ptr<Sequence> sequence = TakeRunning(id);
    allocator.Free(sequence->blocks);
    sequence->Restart();
    std::lock_guard lock(mutex);
    admission.Return(std::move(sequence));
  }
  for (int i = 0; i < plan.num_admitted; ++i) {
    std::lock_guard lock(mutex);
    running.push_back(admission.TakeFront(now));
    if (!running.back()->admitted.has_value()) running.back()->admitted = now;
  }
  std::unordered_map<SequenceId, Sequence*> by_id;
  for (const auto& sequence : running) by_id[sequence->id()] = sequence.get();
  runs.clear();
  for (const StepPlan::Run& run : plan.runs) {
    Sequence* sequence = by_id.at(run.id);
    sequence->last_step = step;
    const bool allocated = allocator.Allocate(run.new_blocks, sequence->blocks);
    SHEAF_CHECK(allocated, "a plan needs no more blocks than are free");
    runs.push_back({sequence, run.num_tokens});
  }
  free_blocks.store(allocator.num_free(), std::memory_order_release);
}

void Engine::Impl::Step(TimePoint now) {
  std::vector<RunningSequence> running_view;
  for (const auto& sequence : running) {
    running_view.push_back({sequence->id(), sequence->total_tokens(), sequence->computed_tokens,
                            static_cast<int>(sequence->blocks.size()), sequence->last_step,
                            sequence->prefilled});
  }
  std::vector<QueuedSequence> queued_view;
  {
    std::lock_guard lock(mutex);
    const int places = std::max(0, options.max_num_seqs - static_cast<int>(running.size()));
    for (int i = 0; i < std::min(places, admission.size()); ++i) {
      queued_view.push_back({admission.at(i).id(), admission.at(i).total_tokens()});
    }
  }
  const StepPlan plan =
      PlanStep({running_view, queued_view, allocator.num_free(), allocator.num_blocks()}, limits);
  ++step;
  Apply(plan, now);
  SHEAF_CHECK(!runs.empty(), "the oldest sequence always fits the cache");

  StepReport report;
  report.step = StepId(step);
  report.sequences = static_cast<int>(runs.size());
  report.preempted = static_cast<int>(plan.preempted.size());
  for (const SequenceRun& run : runs) {
    const bool decode = run.sequence->prefilled || run.num_tokens == 1;
    (decode ? report.decode_tokens : report.prefill_tokens) += run.num_tokens;
  }
  report.status = runner.Run(StepId(step), runs, results);
  const TimePoint end = parts.clock->Now();
  report.duration = end - now;
  if (report.status.ok()) {
    for (size_t i = 0; i < runs.size(); ++i) {
      if (!results[i].status.ok()) continue;
      const NextTokens& next = results[i].next;
      report.generated_tokens += static_cast<int>(next.tokens.size());
      report.forced_tokens += static_cast<int>(next.tokens.size()) - next.sampled;
    }
  }
  parts.observer->OnStep(report);

  if (report.status.ok()) {
    Deliver(runs, end);
    return;
  }
  // Their part of the cache is undefined; none of them got a token of this step.
  for (const SequenceRun& run : runs) {
    Finish(TakeRunning(run.sequence->id()), FinishReason::kError, report.status);
  }
}

void Engine::Impl::Deliver(std::span<const SequenceRun> step_runs, TimePoint now) {
  for (size_t i = 0; i < step_runs.size(); ++i) {
    Sequence& sequence = *step_runs[i].sequence;
    SequenceResult& result = results[i];
    sequence.Advance(step_runs[i].num_tokens);
    if (!result.status.ok()) {
      Finish(TakeRunning(sequence.id()), FinishReason::kError, std::move(result.status),
             result.next.guide_error);
      continue;
    }
    std::optional<FinishReason> end;
    if (result.next.ended) end = sequence.AcceptEnd();
    bool forced = !result.next.sampled;
    for (const TokenId token : result.next.tokens) {
      if (sequence.last_token.has_value()) {
        parts.observer->OnNextToken(now - *sequence.last_token);
      } else {
        parts.observer->OnFirstToken(now - sequence.submitted());
      }
      sequence.last_token = now;
      end = sequence.Accept(token, std::exchange(result.logprobs, {}), forced);
      if (end.has_value()) break;
      forced = true;
    }
    if (end.has_value()) Finish(TakeRunning(sequence.id()), *end, absl::OkStatus());
  }
}

Engine::Engine(EngineOptions options, EngineParts parts)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(parts))) {
  impl_->thread = std::thread([impl = impl_.get()] { impl->Loop(); });
}

Engine::~Engine() { Stop(TimePoint::min()); }

absl::StatusOr<SequenceId> Engine::Submit(GenerationRequest request,
                                          std::shared_ptr<GenerationSink> sink) {
  SHEAF_RETURN_IF_ERROR(Admission::CheckFits(request, impl_->admission.limits()));
  SHEAF_ASSIGN_OR_RETURN(StopStrings stop_strings, StopStrings::Create(request.stop.stop_strings));
  std::unique_ptr<OutputGuide> guide;
  if (request.guide != nullptr) {
    SHEAF_ASSIGN_OR_RETURN(guide, OutputGuide::Create(request.guide, !NamesTokens(request)));
  }
  if (absl::Status cluster = impl_->ClusterStatus(); !cluster.ok()) return Unavailable(cluster);
  auto shared_stop = std::make_shared<const StopStrings>(std::move(stop_strings));
  const TimePoint now = impl_->parts.clock->Now();
  SequenceId id;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->stop_at.has_value()) return absl::UnavailableError("the server is shutting down");
    SHEAF_RETURN_IF_ERROR(impl_->admission.CheckRoom());
    id = SequenceId(impl_->next_id++);
    impl_->live.insert(id);
    impl_->admission.Push(std::make_unique<Sequence>(
        id, std::move(request), std::move(sink), *impl_->parts.tokenizer, std::move(shared_stop),
        Sequence::Limits{impl_->options.eos_token_ids, impl_->options.max_model_len}, now,
        std::move(guide)));
  }
  impl_->WakeUp();
  return id;
}

void Engine::Cancel(SequenceId sequence) {
  {
    std::lock_guard lock(impl_->mutex);
    if (!impl_->live.contains(sequence)) return;
    impl_->cancelled.insert(sequence);
  }
  impl_->WakeUp();
}

bool Engine::ready() const {
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->stop_at.has_value()) return false;
  }
  return impl_->ClusterStatus().ok();
}

bool Engine::live() const {
  const TimePoint since = impl_->awake_since.load(std::memory_order_acquire);
  if (since == TimePoint::max()) return true;
  if (impl_->parts.clock->Now() - since <= impl_->options.max_step_time) return true;
  return !impl_->ClusterStatus().ok();
}

EngineLoad Engine::load() const {
  EngineLoad load;
  {
    std::lock_guard lock(impl_->mutex);
    load.queued = impl_->admission.size();
    load.running = static_cast<int>(impl_->live.size()) - load.queued;
  }
  load.total_blocks = impl_->allocator.num_blocks();
  load.used_blocks = load.total_blocks - free_kv_blocks();
  return load;
}

Duration Engine::RetryAfter() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->admission.RetryAfter();
}

int32_t Engine::max_model_len() const { return impl_->options.max_model_len; }

void Engine::Stop(TimePoint deadline) {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stop_at = std::min(impl_->stop_at.value_or(deadline), deadline);
  }
  impl_->WakeUp();
  std::lock_guard lock(impl_->join_mutex);
  if (impl_->thread.joinable()) impl_->thread.join();
}

void Engine::Wake() { impl_->WakeUp(); }

int Engine::free_kv_blocks() const { return impl_->free_blocks.load(std::memory_order_acquire); }

}  // namespace sheaf
