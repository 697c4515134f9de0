#include "router/schedule/delivery/output_teller.h"

#include <utility>

namespace sheaf {
namespace {

ThoughtTracker Thoughts(const GuidePlan* plan) {
  if (plan == nullptr) return {};
  return {plan->tags, plan->start == ThoughtStart::kInside};
}

}  // namespace

OutputTeller::OutputTeller(SequenceId id, const GenerationRequest& request,
                           std::shared_ptr<GenerationSink> sink, const Tokenizer& tokenizer,
                           std::shared_ptr<const StopStrings> stop_strings, TimePoint submitted)
    : id_(id),
      sink_(std::move(sink)),
      submitted_(submitted),
      stop_strings_(request.stop.stop_strings),
      guided_(request.guide != nullptr && request.guide->constrains()),
      prompt_tokens_(static_cast<int>(request.prompt.size())),
      thoughts_(Thoughts(request.guide.get())),
      text_(tokenizer, {std::move(stop_strings), request.stop.include_stop_string,
                        request.skip_special_tokens, request.stop.min_tokens}) {}

std::optional<int> OutputTeller::AcceptPrior(TokenId token) {
  TokenEvent event;
  event.token = token;
  event.index = output_tokens_++;
  thoughts_.Accept(token);
  TextDelta delta = text_.Push(token);
  if (delta.stop_index.has_value()) return delta.stop_index;
  event.text = std::move(delta.text);
  event.text_end = delta.text_end;
  prior_.push_back(std::move(event));
  prior_tokens_ = output_tokens_;
  return std::nullopt;
}

void OutputTeller::TellBeginning() {
  if (!prior_.empty()) sink_->OnPriorOutput(std::exchange(prior_, {}));
}

void OutputTeller::Tell(PromptLogprobsPiece piece) {
  if (ended()) return;
  TellBeginning();
  sink_->OnPromptLogprobs(piece.first, std::move(piece.entries));
}

bool OutputTeller::Tell(NewToken token, EngineObserver& observer) {
  if (ended()) return false;
  TellBeginning();
  cached_tokens_ = token.cached_tokens;
  queued_ = token.queued;
  if (!first_token_) {
    first_token_ = token.at;
    sink_->OnAdmitted(queued_);
  }
  if (last_token_.has_value()) {
    observer.OnNextToken(token.at - *last_token_);
  } else {
    observer.OnFirstToken(token.at - submitted_);
  }
  last_token_ = token.at;
  thoughts_.Accept(token.token);
  TokenEvent event;
  event.token = token.token;
  event.index = output_tokens_++;
  event.forced = token.forced;
  event.logprobs = std::move(token.logprobs);
  std::optional<int> stop_index;
  if (token.stops) {
    stop_token_ = token.token;
  } else {
    TextDelta delta = text_.Push(token.token);
    event.text = std::move(delta.text);
    stop_index = delta.stop_index;
  }
  event.text_end = text_.text_end();
  sink_->OnToken(std::move(event));
  if (stop_index.has_value()) {
    stop_string_ = stop_strings_[*stop_index];
    TellEnd(FinishReason::kStop, absl::OkStatus());
  }
  return true;
}

void OutputTeller::Tell(Ending ending, EngineObserver& observer) {
  RequestReport report;
  report.reason = ended() ? reason_ : ending.reason;
  report.code = ended() ? absl::StatusCode::kOk : ending.status.code();
  report.prompt_tokens = prompt_tokens_;
  report.completion_tokens = output_tokens_;
  report.prior_tokens = prior_tokens_;
  report.guided = guided_;
  report.guide_error = !ended() && ending.guide_error;
  report.queued = ending.queued;
  if (first_token_) report.first_token = *first_token_ - submitted_;
  report.total = ending.at - submitted_;
  observer.OnRequestEnd(report);
  if (ended()) return;
  if (ending.reason == FinishReason::kStop) TellBeginning();
  cached_tokens_ = ending.cached_tokens;
  queued_ = ending.queued;
  TellEnd(ending.reason, std::move(ending.status));
}

void OutputTeller::TellEnd(FinishReason reason, absl::Status status) {
  GenerationEnd end;
  end.reason = reason;
  end.status = std::move(status);
  TextDelta last = text_.Finish();
  end.text = std::move(last.text);
  if (last.stop_index.has_value() && reason == FinishReason::kLength) {
    // The end of a broken character can complete a stop string.
    end.reason = FinishReason::kStop;
    stop_string_ = stop_strings_[*last.stop_index];
  }
  reason_ = end.reason;
  end.stop_string = std::move(stop_string_);
  end.stop_token = stop_token_;
  end.prompt_tokens = prompt_tokens_;
  end.cached_tokens = cached_tokens_;
  end.completion_tokens = output_tokens_;
  end.reasoning_tokens = thoughts_.num_tokens();
  end.queued = queued_;
  std::exchange(sink_, nullptr)->OnEnd(std::move(end));
}

}  // namespace sheaf
