#include "router/api/generation/generation_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

size_t BytesOf(const TokenLogprobs& logprobs) {
  return sizeof(TokenLogprobs) + logprobs.top.size() * sizeof(TokenLogprob);
}

// A prior output is looked at token by token only when the engine takes the request; what is wrong
// with it names its field.
ApiError RefusedBy(const absl::Status& status) {
  const std::string message(status.message());
  const size_t colon = message.find(": ");
  if (!absl::IsInvalidArgument(status) || !message.starts_with("prior_output") ||
      colon == std::string::npos) {
    return ApiError{status, {}, {}};
  }
  return InvalidFields({{message.substr(0, colon), message.substr(colon + 2)}});
}

}  // namespace

RequestOutcome OutcomeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
      return RequestOutcome::kInvalid;
    case absl::StatusCode::kResourceExhausted:
      return RequestOutcome::kRejected;
    case absl::StatusCode::kUnavailable:
      return RequestOutcome::kUnavailable;
    case absl::StatusCode::kDeadlineExceeded:
      return RequestOutcome::kDeadline;
    case absl::StatusCode::kCancelled:
      return RequestOutcome::kCancelled;
    default:
      return RequestOutcome::kError;
  }
}

// One choice's ear; the engine owns it until OnEnd.
class GenerationCall::Sink final : public GenerationSink {
 public:
  Sink(std::shared_ptr<GenerationCall> call, int choice)
      : call_(std::move(call)), choice_(choice) {}

  void OnPriorOutput(std::vector<TokenEvent> tokens) override {
    ChoiceEvent event{choice_, {}};
    event.what.emplace<PriorOutput>(std::move(tokens));
    call_->Append(std::move(event), 0, /*counts=*/true);
  }
  void OnPromptLogprobs(int, std::vector<std::optional<TokenLogprobs>> logprobs) override {
    size_t bytes = 0;
    for (const auto& entry : logprobs) bytes += entry ? BytesOf(*entry) : sizeof(entry);
    ChoiceEvent event{choice_, {}};
    event.what.emplace<PromptLogprobs>(std::move(logprobs));
    call_->Append(std::move(event), bytes, /*counts=*/false);
  }
  void OnAdmitted(Duration queued) override { call_->OnAdmitted(queued); }
  void OnToken(TokenEvent event) override { call_->OnToken(choice_, std::move(event)); }
  void OnEnd(GenerationEnd end) override { call_->OnEnd(choice_, std::move(end)); }

 private:
  const std::shared_ptr<GenerationCall> call_;
  const int choice_;
};

GenerationCall::GenerationCall(const Services& services, RequestFace face, TimePoint arrival,
                               const std::vector<GenerationRequest>& choices, Origin origin)
    : services_(services),
      face_(face),
      arrival_(arrival),
      choices_(choices.size()),
      running_(choices.size()) {
  if (services.log == nullptr || choices.empty()) return;
  const GenerationRequest& first = choices.front();
  facts_.origin = std::move(origin);
  if (facts_.origin.id.empty()) facts_.origin.id = first.request_id;
  facts_.fairness_key = first.fairness_key;
  facts_.asked = {first.stop.max_tokens, first.sampling.temperature, first.sampling.top_p,
                  first.sampling.top_k};
  facts_.submitted = services.clock.Now() - arrival;
  for (size_t i = 0; i < choices.size(); ++i) {
    const PromptTokens& prompt = choices[i].prompt;
    choices_[i].first_of_prompt = i == 0 || prompt.begin() != choices[i - 1].prompt.begin();
    if (choices_[i].first_of_prompt) facts_.prompt_tokens += static_cast<int64_t>(prompt.size());
  }
}

GenerationCall::~GenerationCall() = default;

ApiResult<std::shared_ptr<GenerationCall>> GenerationCall::Start(
    const Services& services, RequestFace face, TimePoint arrival,
    std::vector<GenerationRequest> choices, Origin origin) {
  std::shared_ptr<GenerationCall> call(
      new GenerationCall(services, face, arrival, choices, std::move(origin)));
  std::vector<GenerationEngine::Submission> submissions;
  for (size_t i = 0; i < choices.size(); ++i) {
    submissions.push_back(
        {std::move(choices[i]), std::make_shared<Sink>(call, static_cast<int>(i))});
  }
  const auto sequences = services.engine.SubmitAll(std::move(submissions));
  if (!sequences.ok()) {
    ApiError error = RefusedBy(sequences.status());
    if (absl::IsResourceExhausted(error.status) || absl::IsUnavailable(error.status)) {
      error.retry_after = services.engine.RetryAfter();
    }
    call->Abandon(OutcomeOf(error.status));
    return error;
  }
  bool failed = false;
  {
    absl::MutexLock lock(&call->mutex_);
    for (size_t i = 0; i < sequences->size(); ++i) call->choices_[i].sequence = (*sequences)[i];
    // A choice may have failed before its id was known here.
    failed = call->error_.has_value();
  }
  if (failed) call->CancelAll();
  return call;
}

void GenerationCall::SetWake(std::function<void()> wake, WakeFor wake_for) {
  {
    absl::MutexLock lock(&mutex_);
    wake_ = std::move(wake);
    wake_for_ = wake_for;
  }
  Notify();
}

GenerationCall::Batch GenerationCall::Take() {
  Batch batch;
  absl::MutexLock lock(&mutex_);
  size_t bytes = 0;
  while (!events_.empty() &&
         (batch.events.empty() || bytes + events_.front().bytes <= kTakeBytes)) {
    Unsent& unsent = events_.front();
    bytes += unsent.bytes;
    if (unsent.counts) unsent_bytes_ -= unsent.bytes;
    batch.events.push_back(std::move(unsent.event));
    events_.pop_front();
  }
  batch.more = !events_.empty();
  if (batch.more) return batch;
  batch.error = error_;
  batch.ended = error_ || running_ == 0;
  return batch;
}

void GenerationCall::Abandon(RequestOutcome outcome) {
  {
    absl::MutexLock lock(&mutex_);
    if (abandoned_) return;
    abandoned_ = true;
    wake_ = nullptr;
    events_.clear();
    if (!counted_) Count(outcome);
  }
  CancelAll();
}

void GenerationCall::OnWake() {
  // Before anything is looked at: what comes from here on queues the call again.
  wake_pending_ = false;
  std::function<void()> wake;
  bool cancel = false;
  {
    absl::MutexLock lock(&mutex_);
    wake = wake_;
    cancel = std::exchange(cancel_wanted_, false);
  }
  if (cancel) CancelAll();
  if (wake) wake();
}

void GenerationCall::Append(ChoiceEvent event, size_t bytes, bool counts) {
  bool notify = true;
  {
    absl::MutexLock lock(&mutex_);
    if (abandoned_ || error_) return;
    // One event larger than the bound still passes, alone.
    if (counts && unsent_bytes_ > 0 && unsent_bytes_ + bytes > services_.max_unsent_bytes) {
      error_ =
          ApiError{absl::ResourceExhaustedError(absl::StrFormat(
                       "the client reads too slowly: more than %d bytes of results wait for it",
                       services_.max_unsent_bytes)),
                   {},
                   {}};
      events_.clear();
      cancel_wanted_ = true;
      Count(RequestOutcome::kRejected);
    } else {
      if (counts) unsent_bytes_ += bytes;
      events_.push_back({std::move(event), bytes, counts});
      const size_t much = std::min(kTakeBytes, services_.max_unsent_bytes / 4);
      notify = wake_for_ == WakeFor::kEveryEvent || !counts || unsent_bytes_ >= much;
    }
  }
  if (notify) Notify();
}

void GenerationCall::OnAdmitted(Duration queued) {
  absl::MutexLock lock(&mutex_);
  facts_.queued = std::max(facts_.queued, queued);
}

void GenerationCall::OnToken(int choice, TokenEvent event) {
  const TimePoint now = services_.clock.Now();
  std::optional<TimePoint> previous;
  {
    absl::MutexLock lock(&mutex_);
    previous = std::exchange(choices_[static_cast<size_t>(choice)].last_token, now);
    if (!facts_.first_token) facts_.first_token = now - arrival_;
    ++facts_.output_tokens;
    facts_.text_bytes += static_cast<int64_t>(event.text.size());
  }
  if (previous) {
    services_.metrics.NextToken(now - *previous);
  } else {
    services_.metrics.FirstToken(now - arrival_);
  }
  const size_t bytes =
      sizeof(ChoiceEvent) + event.text.size() + (event.logprobs ? BytesOf(*event.logprobs) : 0);
  ChoiceEvent appended{choice, {}};
  appended.what.emplace<TokenEvent>(std::move(event));
  Append(std::move(appended), bytes, /*counts=*/true);
}

void GenerationCall::OnEnd(int choice, GenerationEnd end) {
  {
    absl::MutexLock lock(&mutex_);
    --running_;
    Choice& ended = choices_[static_cast<size_t>(choice)];
    ended.ended = true;
    ended.reason = end.reason;
    if (ended.first_of_prompt) facts_.cached_tokens += end.cached_tokens;
    facts_.queued = std::max(facts_.queued, end.queued);
    facts_.text_bytes += static_cast<int64_t>(end.text.size());
    if (abandoned_ || error_) return;
    if (end.reason == FinishReason::kError || end.reason == FinishReason::kCancelled) {
      absl::Status status = end.status;
      // Nobody here asked for it, so the engine is going away.
      if (status.ok()) status = absl::UnavailableError("the server cancelled the request");
      ApiError error{std::move(status), {}, {}};
      if (absl::IsUnavailable(error.status) || absl::IsResourceExhausted(error.status)) {
        error.retry_after = services_.engine.RetryAfter();
      }
      Count(OutcomeOf(error.status));
      error_ = std::move(error);
      cancel_wanted_ = true;  // the other choices
    } else {
      any_length_ |= end.reason == FinishReason::kLength;
      events_.push_back({{choice, std::move(end)}, 0, true});
      if (running_ == 0) Count(any_length_ ? RequestOutcome::kLength : RequestOutcome::kStop);
    }
  }
  Notify();
}

void GenerationCall::Notify() {
  if (!wake_pending_.exchange(true)) services_.wakes.Push(shared_from_this());
}

void GenerationCall::CancelAll() {
  std::vector<SequenceId> running;
  {
    absl::MutexLock lock(&mutex_);
    for (const Choice& choice : choices_) {
      if (choice.sequence && !choice.ended) running.push_back(*choice.sequence);
    }
  }
  for (const SequenceId sequence : running) services_.engine.Cancel(sequence);
}

void GenerationCall::Count(RequestOutcome outcome) {
  if (std::exchange(counted_, true)) return;
  const Duration total = services_.clock.Now() - arrival_;
  services_.metrics.RequestEnded(face_, outcome, total);
  if (services_.log == nullptr) return;
  std::vector<FinishReason> reasons;
  for (const Choice& choice : choices_) {
    if (choice.reason) reasons.push_back(*choice.reason);
  }
  const Origin& origin = facts_.origin;
  services_.log->Ended({.face = face_,
                        .outcome = outcome,
                        .id = origin.id,
                        .fairness_key = facts_.fairness_key,
                        .choices = static_cast<int>(choices_.size()),
                        .prompt_tokens = facts_.prompt_tokens,
                        .cached_tokens = facts_.cached_tokens,
                        .output_tokens = facts_.output_tokens,
                        .text_bytes = facts_.text_bytes,
                        .queued = facts_.queued,
                        .first_token = facts_.first_token,
                        .total = total,
                        .chat = origin.chat,
                        .response_id = origin.response_id,
                        .asked = facts_.asked,
                        .submitted = facts_.submitted,
                        .finish_reasons = reasons,
                        .trace = origin.trace ? &*origin.trace : nullptr});
}

}  // namespace sheaf
