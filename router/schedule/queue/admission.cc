#include "router/schedule/queue/admission.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

absl::Status CheckVocabulary(const char* field, std::span<const TokenId> tokens, int vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocab_size) continue;
    return absl::InvalidArgumentError(absl::StrFormat("%s[%d]: token id: wanted 0 to %d, got %d",
                                                      field, i, vocab_size - 1, tokens[i]));
  }
  return absl::OkStatus();
}

// It cannot end before so many more have come.
int FewestNewTokens(const Sequence& sequence) {
  const StopConditions& stop = sequence.request().stop;
  if (sequence.request().guide != nullptr) return 1;  // a grammar's end comes when it comes
  const bool to_the_end =
      stop.ignore_eos && stop.stop_token_ids.empty() && stop.stop_strings.empty();
  const int fewest = (to_the_end ? stop.max_tokens : stop.min_tokens) - sequence.output_tokens();
  return std::clamp(fewest, 1, std::max(1, sequence.tokens_left()));
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

absl::Status Admission::CheckFits(const GenerationRequest& request, const Limits& limits) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t prior = static_cast<int64_t>(request.prior_output.size());
  if (prompt == 0) return absl::InvalidArgumentError("prompt: wanted at least 1 token, got 0");
  if (prompt >= limits.max_model_len) {
    return absl::InvalidArgumentError(
        absl::StrFormat("prompt: wanted fewer than %d tokens (the model's context), got %d",
                        limits.max_model_len, prompt));
  }
  if (prior > 0 &&
      prior >= std::min<int64_t>(request.stop.max_tokens, limits.max_model_len - prompt)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "prior_output: wanted fewer tokens than may come in all (max_tokens is %d, the model's "
        "context %d, the prompt has %d), got %d",
        request.stop.max_tokens, limits.max_model_len, prompt, prior));
  }
  SHEAF_RETURN_IF_ERROR(CheckVocabulary("prompt", request.prompt, limits.vocab_size));
  SHEAF_RETURN_IF_ERROR(CheckVocabulary("prior_output", request.prior_output, limits.vocab_size));
  for (const std::vector<TokenId>& word : request.bad_words) {
    if (word.empty()) return absl::InvalidArgumentError("bad_words: an entry has no tokens");
  }
  // The token sampled last is never read back: it needs no place in the cache.
  const int64_t needed =
      std::min<int64_t>(prompt + request.stop.max_tokens, limits.max_model_len) - 1;
  if (needed > limits.cache_tokens) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "prompt (%d tokens) and max_tokens (%d) need %d places in the KV cache, which has %d",
        prompt, request.stop.max_tokens, needed, limits.cache_tokens));
  }
  return absl::OkStatus();
}

absl::Status Admission::CheckRoom(int64_t count, int64_t tokens) const {
  if (count > limits_.max_queued) {
    return absl::InvalidArgumentError(
        absl::StrFormat("choices of one request: wanted at most %d (the queue's length), got %d",
                        limits_.max_queued, count));
  }
  if (tokens > limits_.max_queued_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("prompt tokens of all choices of one request: wanted at most %d (the "
                        "queue's bound), got %d",
                        limits_.max_queued_tokens, tokens));
  }
  if (size() + count > limits_.max_queued) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the queue is full: %d requests wait, %d more came, the limit is %d",
                        size(), count, limits_.max_queued));
  }
  const int64_t waiting = order_.waiting().tokens;
  if (waiting + tokens > limits_.max_queued_tokens) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the queue is full: %d tokens wait, %d more came, the limit is %d", waiting,
                        tokens, limits_.max_queued_tokens));
  }
  return absl::OkStatus();
}

absl::Status Admission::CheckDeadline(std::span<const std::unique_ptr<Sequence>> group,
                                      TimePoint now) const {
  for (const std::unique_ptr<Sequence>& sequence : group) {
    const GenerationRequest& request = sequence->request();
    if (!request.deadline.has_value()) continue;
    const FairOrder::Work ahead = order_.AheadOf(request.priority, request.fairness_key);
    const Duration wait = estimate_.SurelyWaits(ahead.sequences, ahead.tokens, now);
    const Duration run = estimate_.SurelyRuns(0, FewestNewTokens(*sequence));
    // One that has passed already is ended where all those are that wait.
    const Duration left = *request.deadline - now;
    if (left <= Duration{0} || wait + run <= left) return absl::OkStatus();
    return absl::DeadlineExceededError(absl::StrFormat(
        "the request cannot end in time: its deadline is %.3f s away, %d requests (%d tokens) wait "
        "in front of it, which take at least %.3f s, and it runs for at least %.3f s",
        Seconds(left), ahead.sequences, ahead.tokens, Seconds(wait),
        Seconds(run)));
  }
  return absl::OkStatus();
}

void Admission::Insert(std::unique_ptr<Sequence> sequence) {
  const SequenceId id = sequence->id();
  if (sequence->request().deadline.has_value()) {
    deadlines_.insert({*sequence->request().deadline, id});
  }
  waiting_.emplace(id, std::move(sequence));
}

std::unique_ptr<Sequence> Admission::Extract(SequenceId id) {
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return nullptr;
  std::unique_ptr<Sequence> sequence = std::move(found->second);
  waiting_.erase(found);
  if (sequence->request().deadline.has_value()) {
    deadlines_.erase({*sequence->request().deadline, id});
  }
  return sequence;
}

void Admission::Push(std::unique_ptr<Sequence> sequence, uint64_t group, TimePoint now) {
  const GenerationRequest& request = sequence->request();
  order_.Add({sequence->id(), request.priority, request.fairness_key, group,
              sequence->total_tokens()},
             now);
  Insert(std::move(sequence));
}

void Admission::Return(std::unique_ptr<Sequence> sequence, FairOrder::ComesBack how,
                       TimePoint now) {
  order_.Return(sequence->id(), sequence->total_tokens(), how, now);
  Insert(std::move(sequence));
}

std::vector<Sequence*> Admission::Peek(int count, TimePoint now) {
  std::vector<Sequence*> front;
  for (const SequenceId id : order_.Peek(count, now)) front.push_back(waiting_.at(id).get());
  return front;
}

std::vector<std::unique_ptr<Sequence>> Admission::Take(std::span<const SequenceId> ids,
                                                       TimePoint now) {
  std::vector<std::unique_ptr<Sequence>> taken;
  int64_t tokens = 0;
  for (const SequenceId id : ids) {
    order_.Take(id, now);
    taken.push_back(Extract(id));
    tokens += taken.back()->total_tokens();
  }
  estimate_.Taken(static_cast<int64_t>(ids.size()), tokens, /*others_wait=*/!empty(), now);
  return taken;
}

std::unique_ptr<Sequence> Admission::Remove(SequenceId id) {
  std::unique_ptr<Sequence> sequence = Extract(id);
  if (sequence != nullptr) order_.Forget(id);
  if (empty()) estimate_.Emptied();
  return sequence;
}

std::vector<std::unique_ptr<Sequence>> Admission::TakeExpired(TimePoint now) {
  std::vector<std::unique_ptr<Sequence>> expired;
  while (earliest_deadline() <= now) expired.push_back(Remove(deadlines_.begin()->second));
  return expired;
}

std::vector<std::unique_ptr<Sequence>> Admission::TakeHopeless(
    std::span<const QueuedSequence> front, TimePoint now) {
  std::vector<std::unique_ptr<Sequence>> hopeless;
  if (deadlines_.empty()) return hopeless;
  for (const QueuedSequence& queued : front) {
    const Sequence& sequence = *waiting_.at(queued.id);
    if (!sequence.request().deadline.has_value()) continue;
    const Duration run = estimate_.SurelyRuns(queued.total_tokens - queued.cached_tokens,
                                              FewestNewTokens(sequence));
    if (run > *sequence.request().deadline - now) hopeless.push_back(Remove(queued.id));
  }
  return hopeless;
}

std::vector<std::unique_ptr<Sequence>> Admission::TakeIf(
    const std::function<bool(const Sequence&)>& condition) {
  std::vector<SequenceId> ids;
  for (const auto& [id, sequence] : waiting_) {
    if (condition(*sequence)) ids.push_back(id);
  }
  std::ranges::sort(ids);
  std::vector<std::unique_ptr<Sequence>> taken;
  for (const SequenceId id : ids) taken.push_back(Remove(id));
  return taken;
}

Duration Admission::RetryAfter(TimePoint now) const {
  constexpr Duration kUnknown = std::chrono::seconds(1);
  if (empty()) return kUnknown;
  const std::optional<Duration> half =
      estimate_.TimeToTake((size() + 1) / 2, (order_.waiting().tokens + 1) / 2, now);
  return std::clamp<Duration>(half.value_or(kUnknown), std::chrono::milliseconds(100),
                              std::chrono::seconds(60));
}

}  // namespace sheaf
