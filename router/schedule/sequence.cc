#include "router/schedule/sequence.h"

#include <algorithm>
#include <utility>

namespace sheaf {

Sequence::Sequence(SequenceId id, GenerationRequest request, std::shared_ptr<GenerationSink> sink,
                   const Tokenizer& tokenizer, std::shared_ptr<const StopStrings> stop_strings,
                   const Limits& limits, TimePoint submitted)
    : id_(id),
      request_(std::move(request)),
      sink_(std::move(sink)),
      max_model_len_(limits.max_model_len),
      submitted_(submitted),
      prompt_tokens_(static_cast<int>(request_.prompt.size())),
      tokens_(std::move(request_.prompt)),
      stop_ids_(request_.stop.stop_token_ids),
      text_(tokenizer, {std::move(stop_strings), request_.stop.include_stop_string,
                        request_.skip_special_tokens, request_.stop.min_tokens}) {
  request_.prompt.clear();
  if (!request_.stop.ignore_eos) {
    stop_ids_.insert(stop_ids_.end(), limits.eos_token_ids.begin(), limits.eos_token_ids.end());
  }
  if (request_.prompt_logprobs.has_value()) prompt_logprobs_.resize(prompt_tokens_);
}

kernels::SamplingHistory Sequence::history() const {
  kernels::SamplingHistory history;
  history.prompt = tokens().first(prompt_tokens_);
  history.output = tokens().subspan(prompt_tokens_);
  if (output_tokens() < request_.stop.min_tokens) history.masked = stop_ids_;
  return history;
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
  prompt_logprobs_done_ = std::max(prompt_logprobs_done_, computed_tokens + 1);
}

bool Sequence::IsStopToken(TokenId token) const {
  return std::find(stop_ids_.begin(), stop_ids_.end(), token) != stop_ids_.end();
}

std::optional<FinishReason> Sequence::Accept(TokenId token, std::optional<TokenLogprobs> logprobs) {
  if (!prompt_logprobs_.empty()) {
    sink_->OnPromptLogprobs(std::exchange(prompt_logprobs_, {}));
  }
  tokens_.push_back(token);
  TokenEvent event;
  event.token = token;
  event.logprobs = std::move(logprobs);
  std::optional<FinishReason> end;
  if (IsStopToken(token) && output_tokens() > request_.stop.min_tokens) {
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
  end.completion_tokens = output_tokens();
  std::exchange(sink_, nullptr)->OnEnd(std::move(end));
}

}  // namespace sheaf
