#include "router/api/openai/generation_reply.h"

#include <algorithm>
#include <utility>

#include "router/api/http/http_errors.h"

namespace sheaf {

GenerationReply::GenerationReply(const TextCodec& codec, AnswerOptions options,
                                 StartedRequest started)
    : codec_(codec),
      options_(std::move(options)),
      prepared_(std::move(started.prepared)),
      has_logprobs_(options_.parsed.request.logprobs.has_value()),
      call_(std::move(started.call)) {
  choices_.resize(prepared_.prompts.size() * static_cast<size_t>(prepared_.n));
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].prompt = &prepared_.prompts[i / static_cast<size_t>(prepared_.n)];
  }
}

GenerationReply::~GenerationReply() { call_->Abandon(RequestOutcome::kCancelled); }

PendingReply::Progress GenerationReply::Poll(bool begun) {
  Progress progress;
  GenerationCall::Batch batch = call_->Take();
  for (ChoiceEvent& event : batch.events) Handle(std::move(event), progress.stream);
  progress.ended = batch.ended;
  if (!batch.ended) return progress;
  if (batch.error) {
    if (begun || !progress.stream.empty()) {
      progress.stream += ErrorEvent(*batch.error) + "data: [DONE]\n\n";
    } else {
      progress.response = ErrorResponse(*batch.error);
    }
  } else if (streams()) {
    if (options_.parsed.include_usage) {
      Json chunk = Head();
      chunk["choices"] = Json::array();
      chunk["usage"] = TotalUsage();
      progress.stream += "data: " + JsonText(chunk) + "\n\n";
    }
    progress.stream += "data: [DONE]\n\n";
  } else {
    Json answer = WholeAnswer(choices_);
    answer["usage"] = TotalUsage();
    progress.response = HttpResponse{200, "application/json", JsonText(answer), {}};
  }
  return progress;
}

void GenerationReply::Handle(ChoiceEvent event, std::string& out) {
  Choice& choice = choices_[static_cast<size_t>(event.choice)];
  if (auto* logprobs = std::get_if<PromptLogprobs>(&event.what)) {
    choice.prompt_logprobs = std::move(*logprobs);
  } else if (auto* token = std::get_if<TokenEvent>(&event.what)) {
    if (prepared_.drop_output) return;
    ++choice.completion_tokens;
    if (streams()) {
      StreamToken(event.choice, choice, *token, out);
    } else {
      choice.text += token->text;
      choice.tokens.push_back(token->token);
      if (has_logprobs_) choice.logprobs.push_back(std::move(token->logprobs));
    }
  } else {
    auto& end = std::get<GenerationEnd>(event.what);
    if (prepared_.drop_output) {
      end.text.clear();
    } else {
      choice.completion_tokens = end.completion_tokens;
    }
    if (streams()) {
      StreamEnd(event.choice, choice, end, out);
    } else {
      choice.text += end.text;
    }
    choice.end = std::move(end);
  }
}

void GenerationReply::AppendChunk(Json choice, const Choice* usage_of, std::string& out,
                                  Json further) const {
  Json chunk = Head();
  chunk["choices"] = Json::array({std::move(choice)});
  for (auto& [name, value] : further.items()) chunk[name] = std::move(value);
  if (options_.parsed.continuous_usage_stats && usage_of != nullptr) {
    chunk["usage"] =
        Usage(static_cast<int64_t>(usage_of->prompt->tokens.size()), usage_of->completion_tokens);
  } else if (options_.parsed.include_usage) {
    chunk["usage"] = nullptr;
  }
  out += "data: " + JsonText(chunk) + "\n\n";
}

Json GenerationReply::Head() const {
  return {{"id", options_.id},
          {"object", options_.object},
          {"created", options_.created_unix_seconds},
          {"model", options_.model}};
}

Json GenerationReply::Usage(int64_t prompt_tokens, int64_t completion_tokens) const {
  return {{"prompt_tokens", prompt_tokens},
          {"total_tokens", prompt_tokens + completion_tokens},
          {"completion_tokens", completion_tokens}};
}

Json GenerationReply::TotalUsage() const {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  for (const PreparedPrompt& prompt : prepared_.prompts) {
    prompt_tokens += static_cast<int64_t>(prompt.tokens.size());
  }
  for (const Choice& choice : choices_) completion_tokens += choice.completion_tokens;
  return Usage(prompt_tokens, completion_tokens);
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
