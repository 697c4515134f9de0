#include "router/schedule/step/sequence.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

// Whether `output` ends with all of `word` but its last token.
bool EndsWithRest(std::span<const TokenId> output, std::span<const TokenId> word) {
  const std::span<const TokenId> rest = word.first(word.size() - 1);
  return rest.size() <= output.size() && std::ranges::equal(output.last(rest.size()), rest);
}

}  // namespace

Sequence::Sequence(SequenceId id, GenerationRequest request, std::shared_ptr<GenerationSink> sink,
                   const Tokenizer& tokenizer, std::shared_ptr<const StopStrings> stop_strings,
                   const Limits& limits, TimePoint submitted, std::unique_ptr<OutputGuide> guide)
    : id_(id),
      request_(std::move(request)),
      teller_(std::make_shared<OutputTeller>(id, request_, std::move(sink), tokenizer,
                                             std::move(stop_strings), submitted)),
      max_model_len_(limits.max_model_len),
      submitted_(submitted),
      prompt_tokens_(static_cast<int>(request_.prompt.size())),
      stop_ids_(request_.stop.stop_token_ids),
      guide_(std::move(guide)) {
  if (!request_.stop.ignore_eos) {
    stop_ids_.insert(stop_ids_.end(), limits.eos_token_ids.begin(), limits.eos_token_ids.end());
  }
  if (request_.prompt_logprobs.has_value()) logprobs_wanted_ = prompt_tokens_;
}

int Sequence::tokens_left() const {
  return std::min(request_.stop.max_tokens - output_tokens(), max_model_len_ - total_tokens());
}

kernels::SamplingHistory Sequence::history(std::span<const TokenId> ahead) {
  kernels::SamplingHistory history;
  history.prompt = tokens().first(prompt_tokens_);
  history.output = tokens().subspan(prompt_tokens_);
  if (kernels::HasPenalties(request_.sampling)) {
    if (!counts_.has_value()) counts_.emplace(history.prompt, history.output);
    history.counts = ahead.empty() ? &*counts_ : &CountsWith(ahead);
  }
  if (!ahead.empty()) {
    output_and_ahead_.assign(history.output.begin(), history.output.end());
    output_and_ahead_.insert(output_and_ahead_.end(), ahead.begin(), ahead.end());
    history.output = output_and_ahead_;
  }
  banned_.clear();
  const GuideRule rule = guide_ == nullptr ? GuideRule::kFree : guide_->rule();
  // At a grammar's end nothing may keep a stop token from coming.
  if (rule == GuideRule::kStopOnly) return history;
  const bool too_early = std::ssize(history.output) < request_.stop.min_tokens;
  if (too_early || rule == GuideRule::kNoStop || rule == GuideRule::kGrammar) banned_ = stop_ids_;
  if (rule == GuideRule::kNoStop) {
    const ThoughtTags& tags = guide_->plan().tags;
    // Were </think> a stop token and banned, the thoughts could never end.
    std::erase_if(banned_, [&](TokenId id) { return id == tags.think_end; });
    for (const std::optional<TokenId>& tag : {tags.think_begin, tags.call_begin}) {
      if (tag.has_value()) banned_.push_back(*tag);
    }
  }
  for (const std::vector<TokenId>& word : request_.bad_words) {
    if (EndsWithRest(history.output, word)) banned_.push_back(word.back());
  }
  history.masked = banned_;
  return history;
}

// The rows of a step ask with ever more tokens ahead.
const kernels::TokenCounts& Sequence::CountsWith(std::span<const TokenId> ahead) {
  const auto same = std::ranges::mismatch(ahead_, ahead).in1;
  if (!counts_with_ahead_.has_value() || same != ahead_.end()) {
    counts_with_ahead_ = counts_;
    ahead_.clear();
  }
  for (const TokenId token : ahead.subspan(ahead_.size())) {
    counts_with_ahead_->AddOutput(token);
    ahead_.push_back(token);
  }
  return *counts_with_ahead_;
}

int Sequence::reusable_tokens() const {
  const int all_but_last = total_tokens() - 1;
  if (logprobs_done_ >= logprobs_wanted_) return all_but_last;
  return std::min(all_but_last, logprobs_done_ - 1);
}

int Sequence::FirstLogitToken(int num_tokens) const {
  const int first_sampled = ChunkSamples(num_tokens) ? num_tokens - 1 : num_tokens;
  if (logprobs_done_ >= logprobs_wanted_) return first_sampled;
  // The row of a position gives the log-probabilities of the token after it.
  return std::clamp(logprobs_done_ - 1 - computed_tokens, 0, first_sampled);
}

void Sequence::BeginChunk(int num_tokens) {
  const int known = std::min(logprobs_wanted_, computed_tokens + num_tokens + 1);
  const int in_piece = known - logprobs_taken_;
  if (in_piece > static_cast<int>(logprobs_piece_.size())) logprobs_piece_.resize(in_piece);
}

std::optional<TokenLogprobs>* Sequence::PromptSlot(int position) {
  const int token = position + 1;
  if (token < logprobs_done_ || token >= logprobs_wanted_) return nullptr;
  return &logprobs_piece_[token - logprobs_taken_];
}

void Sequence::Advance(int num_tokens) {
  computed_tokens += num_tokens;
  prefilled = prefilled || computed_tokens == total_tokens();
  logprobs_done_ = std::max(logprobs_done_, computed_tokens + 1);
}

std::optional<PromptLogprobsPiece> Sequence::TakePromptLogprobs() {
  const int count = std::min(logprobs_done_, logprobs_wanted_) - logprobs_taken_;
  if (count <= 0) return std::nullopt;
  PromptLogprobsPiece piece{logprobs_taken_, std::exchange(logprobs_piece_, {})};
  // A step that was given up may have been longer than the one that came to its end.
  piece.entries.resize(count);
  logprobs_taken_ += count;
  return piece;
}

bool Sequence::IsStopToken(TokenId token) const {
  return std::find(stop_ids_.begin(), stop_ids_.end(), token) != stop_ids_.end();
}

bool Sequence::Stops(TokenId token, int offset) const {
  if (!IsStopToken(token)) return false;
  if (guide_ != nullptr && guide_->rule() == GuideRule::kStopOnly) return true;
  return output_tokens() + offset >= request_.stop.min_tokens;
}

absl::Status Sequence::TakePriorOutput() {
  const std::vector<TokenId> prior = std::exchange(request_.prior_output, {});
  if (!prior.empty()) tokens_.reserve(request_.prompt.size() + prior.size());
  for (const TokenId token : prior) {
    const int position = output_tokens();
    if (const absl::Status status = AcceptPrior(token); !status.ok()) {
      return absl::Status(status.code(), absl::StrFormat("prior_output[%d]: %s", position,
                                                         std::string(status.message())));
    }
  }
  prior_tokens_ = output_tokens();
  return absl::OkStatus();
}

// As Accept, for a token that the client already has.
absl::Status Sequence::AcceptPrior(TokenId token) {
  SHEAF_RETURN_IF_ERROR(CheckPrior(token));
  if (guide_ != nullptr) SHEAF_RETURN_IF_ERROR(guide_->Accept(token));
  Append(token);
  if (const std::optional<int> stop_index = teller_->AcceptPrior(token)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the output ends here with stop string %d", *stop_index));
  }
  return absl::OkStatus();
}

// Whether the sampler or the guide could have chosen `token` as the next one, and go on.
absl::Status Sequence::CheckPrior(TokenId token) {
  const std::optional<TokenId> forced =
      guide_ == nullptr ? std::nullopt : guide_->forced();
  if (forced.has_value() && token != *forced) {
    return absl::InvalidArgumentError(
        absl::StrFormat("wanted token %d, which the guide forces here, got %d", *forced, token));
  }
  if (Stops(token, 0)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the output ends here with stop token %d", token));
  }
  if (forced.has_value()) return absl::OkStatus();
  if (guide_ != nullptr && guide_->rule() == GuideRule::kStopOnly) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the grammar is at its end, got token %d", token));
  }
  const std::span<const TokenId> masked = history().masked;
  if (std::find(masked.begin(), masked.end(), token) != masked.end()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("token %d may not come here (min_tokens, bad_words or a guide)", token));
  }
  return absl::OkStatus();
}

void Sequence::Append(TokenId token) {
  if (tokens_.empty()) {
    tokens_.assign(request_.prompt.begin(), request_.prompt.end());
    request_.prompt.clear();
  }
  tokens_.push_back(token);
  if (counts_.has_value()) counts_->AddOutput(token);
  counts_with_ahead_.reset();
  ahead_.clear();
}

std::optional<FinishReason> Sequence::Accept(TokenId token) {
  const bool stops = Stops(token, 0);
  Append(token);
  if (stops) return FinishReason::kStop;
  if (output_tokens() >= request_.stop.max_tokens || total_tokens() >= max_model_len_) {
    return FinishReason::kLength;
  }
  return std::nullopt;
}

}  // namespace sheaf
