#pragma once
// ParsedRequest: a generation request as some face read it, every field absent unless the client
// sent it, nothing checked but types. request_validation.h turns it into what the engine runs.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"

namespace sheaf {

struct ChatInput {
  std::string messages_json;            // array
  std::string template_arguments_json;  // object, or empty
  bool add_generation_prompt = true;
};

// Text, or token ids as sent (any integer).
using PromptInput = std::variant<std::string, std::vector<int64_t>>;

struct ParsedRequest {
  std::optional<std::string> request_id;
  std::optional<std::string> model;
  // Prompts, or a chat; neither is an error.
  std::vector<PromptInput> prompts;
  std::optional<ChatInput> chat;
  std::optional<bool> add_special_tokens;  // default: true for text, false for a rendered chat

  std::optional<double> temperature, top_p, min_p;
  std::optional<double> repetition_penalty, frequency_penalty, presence_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  std::vector<std::pair<int64_t, double>> logit_bias;
  std::vector<int64_t> allowed_token_ids;

  std::optional<int64_t> n, max_tokens, min_tokens;
  std::vector<std::string> stop;
  std::vector<int64_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop_string = false;
  bool skip_special_tokens = true;
  bool echo = false;  // the answer begins with the prompt; allows max_tokens 0

  std::optional<int64_t> logprobs, prompt_logprobs;
  std::optional<TimePoint> deadline;
};

}  // namespace sheaf
