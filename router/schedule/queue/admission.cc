#include "router/schedule/queue/admission.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
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

absl::Status Admission::CheckRoom(int count) const {
  if (count > limits_.max_queued) {
    return absl::InvalidArgumentError(
        absl::StrFormat("choices of one request: wanted at most %d (the queue's length), got %d",
                        limits_.max_queued, count));
  }
  if (size() + count <= limits_.max_queued) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrFormat("the queue is full: %d requests wait, %d more came, the limit is %d", size(),
                      count, limits_.max_queued));
}

std::unique_ptr<Sequence> Admission::Take(SequenceId id, TimePoint now) {
  const auto place = std::find_if(queue_.begin(), queue_.end(),
                                  [&](const auto& waiting) { return waiting->id() == id; });
  SHEAF_CHECK(place != queue_.end(), "a plan admits who waits");
  std::unique_ptr<Sequence> sequence = std::move(*place);
  queue_.erase(place);
  // Only while others wait does the time between two takes say how fast the queue moves.
  if (last_take_ != TimePoint{} && !queue_.empty()) {
    take_interval_ += (now - last_take_ - take_interval_) / 8;
  }
  last_take_ = now;
  return sequence;
}

std::vector<std::unique_ptr<Sequence>> Admission::TakeIf(
    const std::function<bool(const Sequence&)>& condition) {
  std::vector<std::unique_ptr<Sequence>> taken;
  if (std::none_of(queue_.begin(), queue_.end(),
                   [&](const auto& each) { return condition(*each); })) {
    return taken;
  }
  std::deque<std::unique_ptr<Sequence>> kept;
  for (std::unique_ptr<Sequence>& sequence : queue_) {
    const bool take = condition(*sequence);
    if (take) {
      taken.push_back(std::move(sequence));
    } else {
      kept.push_back(std::move(sequence));
    }
  }
  queue_ = std::move(kept);
  return taken;
}

Duration Admission::RetryAfter() const {
  return std::clamp<Duration>(take_interval_ * ((size() + 1) / 2), std::chrono::seconds(1),
                              std::chrono::seconds(60));
}

}  // namespace sheaf
