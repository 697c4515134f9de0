#include "router/api/openai/generation_reply.h"

#include <algorithm>
#include <utility>

#include "router/api/http/http_errors.h"
#include "router/api/openai/logprobs_json.h"

namespace sheaf {
namespace {

std::string HeadOf(const AnswerOptions& options) {
  std::string head = JsonText(Json{{"id", options.id},
                                   {"object", options.object},
                                   {"created", options.created_unix_seconds},
                                   {"model", options.model}});
  head.pop_back();
  return head;
}

}  // namespace

GenerationReply::GenerationReply(const ApiContext& context, AnswerOptions options,
                                 StartedRequest started)
    : codec_(context.codec),
      options_(std::move(options)),
      prepared_(std::move(started.prepared)),
      has_logprobs_(options_.parsed.request.logprobs.has_value()),
      metrics_(context.metrics),
      call_(std::move(started.call)),
      head_(HeadOf(options_)) {
  choices_.resize(prepared_.prompts.size() * static_cast<size_t>(prepared_.n));
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].prompt = &prepared_.prompts[i / static_cast<size_t>(prepared_.n)];
  }
}

GenerationReply::~GenerationReply() { call_->Abandon(RequestOutcome::kCancelled); }

PendingReply::Progress GenerationReply::Poll(bool begun) {
  Progress progress;
  GenerationCall::Batch batch;
  do {
    batch = call_->Take();
    for (ChoiceEvent& event : batch.events) Handle(std::move(event), progress.stream);
    // What a stream has to send it sends first; then it polls again.
  } while (batch.more && progress.stream.empty());
  progress.ended = batch.ended;
  if (!batch.ended) return progress;
  if (const int calls = UndeclaredCalls()) metrics_.UndeclaredToolCalls(calls);
  if (batch.error) {
    if (begun || !progress.stream.empty()) {
      progress.stream += ErrorEvent(*batch.error) + "data: [DONE]\n\n";
    } else {
      progress.response = ErrorResponse(*batch.error);
    }
  } else if (streams()) {
    if (options_.parsed.include_usage) {
      progress.stream += "data: " + head_ + ",\"choices\":[],\"usage\":" + JsonText(TotalUsage());
      progress.stream += "}\n\n";
    }
    progress.stream += "data: [DONE]\n\n";
  } else {
    std::string answer;
    AppendWholeAnswer(choices_, answer);
    answer += ",\"usage\":" + JsonText(TotalUsage()) + "}";
    progress.response = HttpResponse{200, "application/json", std::move(answer), {}};
  }
  return progress;
}

void GenerationReply::Handle(ChoiceEvent event, std::string& out) {
  Choice& choice = choices_[static_cast<size_t>(event.choice)];
  if (auto* logprobs = std::get_if<PromptLogprobs>(&event.what)) {
    const int first = choice.prompt_logprobs_seen;
    choice.prompt_logprobs_seen += static_cast<int>(logprobs->size());
    if (!streams() && options_.parsed.show_prompt_logprobs) {
      AppendPromptLogprobs(codec_, *logprobs, choice.prompt_logprobs);
    }
    TakePromptLogprobs(event.choice, choice, first, *logprobs, out);
  } else if (auto* prior = std::get_if<PriorOutput>(&event.what)) {
    choice.completion_tokens += static_cast<int>(prior->size());
    SkipPrior(event.choice, *prior);
  } else if (auto* token = std::get_if<TokenEvent>(&event.what)) {
    if (prepared_.drop_output) return;
    ++choice.completion_tokens;
    if (streams()) {
      StreamToken(event.choice, choice, *token, out);
    } else {
      CollectToken(event.choice, choice, *token);
      choice.tokens.push_back(token->token);
    }
  } else {
    auto& end = std::get<GenerationEnd>(event.what);
    choice.cached_tokens = end.cached_tokens;
    if (prepared_.drop_output) {
      end.text.clear();
    } else {
      choice.completion_tokens = end.completion_tokens;
    }
    if (streams()) {
      StreamEnd(event.choice, choice, end, out);
    } else {
      CollectEnd(event.choice, choice, end);
    }
    choice.end = std::move(end);
  }
}

void GenerationReply::AppendChunk(std::string_view choice, const Choice* usage_of,
                                  std::string& out, std::string_view further) const {
  out += "data: ";
  out += head_;
  out += ",\"choices\":[";
  out += choice;
  out += ']';
  out += further;
  if (options_.parsed.continuous_usage_stats && usage_of != nullptr) {
    TokenCounts counts;
    counts.prompt = static_cast<int64_t>(usage_of->prompt->tokens.size());
    counts.cached = usage_of->cached_tokens;
    AddChoice(*usage_of, counts);
    out += ",\"usage\":";
    out += JsonText(UsageJson(counts));
  } else if (options_.parsed.include_usage) {
    out += ",\"usage\":null";
  }
  out += "}\n\n";
}

void GenerationReply::AppendPromptLogprobsField(Choice& choice, std::string& out) const {
  if (!options_.parsed.show_prompt_logprobs || choice.prompt_logprobs_seen == 0) return;
  out += ",\"prompt_logprobs\":[";
  choice.prompt_logprobs.pop_back();  // the last comma
  out += std::exchange(choice.prompt_logprobs, {});
  out += ']';
}

void GenerationReply::AddChoice(const Choice& choice, TokenCounts& counts) const {
  counts.completion += choice.completion_tokens;
  if (const auto reasoning = ReasoningTokens(static_cast<int>(&choice - choices_.data()))) {
    counts.reasoning = counts.reasoning.value_or(0) + *reasoning;
  }
}

Json GenerationReply::UsageJson(const TokenCounts& counts) {
  Json usage = {{"prompt_tokens", counts.prompt},
                {"total_tokens", counts.prompt + counts.completion},
                {"completion_tokens", counts.completion}};
  if (counts.cached) usage["prompt_tokens_details"] = {{"cached_tokens", *counts.cached}};
  if (counts.reasoning) {
    usage["completion_tokens_details"] = {{"reasoning_tokens", *counts.reasoning}};
  }
  return usage;
}

Json GenerationReply::TotalUsage() const {
  TokenCounts counts;
  counts.cached = 0;
  const auto n = static_cast<size_t>(prepared_.n);
  for (size_t i = 0; i < prepared_.prompts.size(); ++i) {
    counts.prompt += static_cast<int64_t>(prepared_.prompts[i].tokens.size());
    // The choices of a prompt read what the first of them computed; the prompt counts once.
    const auto first = choices_.begin() + static_cast<ptrdiff_t>(i * n);
    int32_t cached = first->cached_tokens.value_or(0);
    for (size_t j = 1; j < n; ++j) cached = std::min(cached, first[j].cached_tokens.value_or(0));
    *counts.cached += cached;
  }
  for (const Choice& choice : choices_) AddChoice(choice, counts);
  return UsageJson(counts);
}

const char* GenerationReply::FinishReasonName(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

Json GenerationReply::StopReason(const GenerationEnd& end) const {
  if (end.stop_string) return *end.stop_string;
  const auto& own = options_.parsed.request.stop_token_ids;
  if (end.stop_token && std::find(own.begin(), own.end(), *end.stop_token) != own.end())
    return *end.stop_token;
  return nullptr;
}

}  // namespace sheaf
