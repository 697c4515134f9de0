#include "router/schedule/step/sequence.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

ThoughtTracker Thoughts(const GuidePlan* plan) {
  if (plan == nullptr) return {};
  return {plan->tags, plan->start == ThoughtStart::kInside};
}

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
      sink_(std::move(sink)),
      max_model_len_(limits.max_model_len),
      submitted_(submitted),
      prompt_tokens_(static_cast<int>(request_.prompt.size())),
      tokens_(std::move(request_.prompt)),
      stop_ids_(request_.stop.stop_token_ids),
      guide_(std::move(guide)),
      thoughts_(Thoughts(request_.guide.get())),
      text_(tokenizer, {std::move(stop_strings), request_.stop.include_stop_string,
                        request_.skip_special_tokens, request_.stop.min_tokens}) {
  request_.prompt.clear();
  if (!request_.stop.ignore_eos) {
    stop_ids_.insert(stop_ids_.end(), limits.eos_token_ids.begin(), limits.eos_token_ids.end());
  }
  if (request_.prompt_logprobs.has_value()) prompt_logprobs_.resize(prompt_tokens_);
}

int Sequence::tokens_left() const {
  return std::min(request_.stop.max_tokens - output_tokens(), max_model_len_ - total_tokens());
}

kernels::SamplingHistory Sequence::history(std::span<const TokenId> ahead) {
  kernels::SamplingHistory history;
  history.prompt = tokens().first(prompt_tokens_);
  history.output = tokens().subspan(prompt_tokens_);
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

int Sequence::reusable_tokens() const {
  const int all_but_last = total_tokens() - 1;
  if (prompt_logprobs_done_ >= static_cast<int>(prompt_logprobs_.size())) return all_but_last;
  return std::min(all_but_last, prompt_logprobs_done_ - 1);
}

int Sequence::FirstLogitToken(int num_tokens) const {
  const int first_sampled = ChunkSamples(num_tokens) ? num_tokens - 1 : num_tokens;
  if (prompt_logprobs_done_ >= static_cast<int>(prompt_logprobs_.size())) return first_sampled;
  // The row of a position gives the log-probabilities of the token after it.
  return std::clamp(prompt_logprobs_done_ - 1 - computed_tokens, 0, first_sampled);
}

std::optional<TokenLogprobs>* Sequence::PromptSlot(int position) {
  const int token = position + 1;
  if (token < prompt_logprobs_done_ || token >= static_cast<int>(prompt_logprobs_.size()))
    return nullptr;
  return &prompt_logprobs_[token];
}

void Sequence::Advance(int num_tokens) {
  computed_tokens += num_tokens;
  prefilled = prefilled || computed_tokens == total_tokens();
  prompt_logprobs_done_ = std::max(prompt_logprobs_done_, computed_tokens + 1);
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
  tokens_.reserve(tokens_.size() + prior.size());
  prior_.reserve(prior.size());
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
  TokenEvent event;
  event.token = token;
  event.index = output_tokens();
  tokens_.push_back(token);
  thoughts_.Accept(token);
  TextDelta delta = text_.Push(token);
  if (delta.stop_index.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the output ends here with stop string %d", *delta.stop_index));
  }
  event.text = std::move(delta.text);
  event.text_end = delta.text_end;
  prior_.push_back(std::move(event));
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

void Sequence::TellBeginning() {
  if (!prior_.empty()) sink_->OnPriorOutput(std::exchange(prior_, {}));
  if (!prompt_logprobs_.empty()) {
    sink_->OnPromptLogprobs(std::exchange(prompt_logprobs_, {}));
  }
}

std::optional<FinishReason> Sequence::Accept(TokenId token, std::optional<TokenLogprobs> logprobs,
                                             bool forced) {
  TellBeginning();
  const bool stops = Stops(token, 0);
  tokens_.push_back(token);
  thoughts_.Accept(token);
  TokenEvent event;
  event.token = token;
  event.index = output_tokens() - 1;
  event.forced = forced;
  event.logprobs = std::move(logprobs);
  std::optional<FinishReason> end;
  if (stops) {
    stop_token_ = token;
    end = FinishReason::kStop;
  } else {
    TextDelta delta = text_.Push(token);
    event.text = std::move(delta.text);
    if (delta.stop_index.has_value()) {
      stop_string_ = request_.stop.stop_strings[*delta.stop_index];
      end = FinishReason::kStop;
    } else if (output_tokens() >= request_.stop.max_tokens || total_tokens() >= max_model_len_) {
      end = FinishReason::kLength;
    }
  }
  event.text_end = text_.text_end();
  sink_->OnToken(std::move(event));
  return end;
}

FinishReason Sequence::AcceptEnd() {
  TellBeginning();
  return FinishReason::kStop;
}

void Sequence::End(FinishReason reason, absl::Status status) {
  GenerationEnd end;
  end.reason = reason;
  end.status = std::move(status);
  TextDelta last = text_.Finish();
  end.text = std::move(last.text);
  if (last.stop_index.has_value() && reason == FinishReason::kLength) {
    // The end of a broken character can complete a stop string.
    end.reason = FinishReason::kStop;
    stop_string_ = request_.stop.stop_strings[*last.stop_index];
  }
  end.stop_string = stop_string_;
  end.stop_token = stop_token_;
  end.prompt_tokens = prompt_tokens_;
  end.cached_tokens = cached_tokens;
  end.completion_tokens = output_tokens();
  end.reasoning_tokens = thoughts_.num_tokens();
  std::exchange(sink_, nullptr)->OnEnd(std::move(end));
}

}  // namespace sheaf
