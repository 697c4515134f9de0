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
#include "router/text/grammar/grammar_spec.h"
#include "tracing/trace_context.h"

namespace sheaf {

// A function that the model may call, as the client declared it.
struct ToolDefinition {
  std::string name;
  std::string definition_json;  // what the chat template prints: {"type": "function", ...}
  std::string parameters_json;  // JSON Schema; empty: none declared
  bool strict = false;          // every call matches the schema
};

struct ToolChoice {
  enum class Mode { kAuto, kNone, kRequired };
  Mode mode = Mode::kAuto;
  std::vector<std::string> allowed = {};  // empty: all
  bool named = false;                     // `allowed` is one tool, called exactly once
};

struct ChatInput {
  std::string messages_json;                 // array
  size_t content_bytes = 0;                  // of what the messages say, as text
  std::string template_arguments_json = {};  // object, or empty
  std::string documents_json = {};           // array for templates that know documents, or empty
  std::string chat_template = {};            // instead of the checkpoint's; empty: none
  std::optional<bool> add_generation_prompt = {};  // default: true, unless a message is continued
  bool continue_final_message = false;

  std::vector<ToolDefinition> tools = {};
  std::optional<ToolChoice> tool_choice = {};
  bool parallel_tool_calls = true;

  std::optional<bool> enable_thinking = {};
  std::optional<std::string> reasoning_effort = {};
  std::optional<int64_t> thinking_token_budget = {};
  bool include_reasoning = true;
};

// What the answer is held to, and the field that asked for it.
struct AnswerConstraint {
  GrammarSpec grammar;
  std::string field;                   // "response_format", for messages
  std::optional<bool> any_whitespace;  // the client's wish; default: the server's
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
  std::optional<int64_t> truncate_prompt_tokens;  // keep the last so many; -1: what fits

  std::optional<double> temperature, top_p, min_p;
  std::optional<double> repetition_penalty, frequency_penalty, presence_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  std::vector<std::pair<int64_t, double>> logit_bias;
  std::vector<int64_t> allowed_token_ids;
  std::vector<std::string> bad_words;
  std::optional<AnswerConstraint> constraint;

  std::optional<int64_t> n, max_tokens, min_tokens;
  std::vector<std::string> stop;
  std::vector<int64_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop_string = false;
  bool skip_special_tokens = true;
  bool echo = false;  // the answer begins with the prompt; allows max_tokens 0

  std::vector<int64_t> prior_output;  // generated before, elsewhere; counts as output

  std::optional<int64_t> logprobs, prompt_logprobs;
  std::optional<TimePoint> deadline;

  std::optional<int64_t> priority;         // lower is earlier
  std::string fairness_key;                // fairness_key.h; empty: none
  std::optional<std::string> cache_salt;

  // For whoever looks at what happened; nothing of it changes the answer.
  std::optional<TraceContext> trace;  // that the client asks to belong to
  std::string response_id;            // of the answer, where it is not the request's
};

}  // namespace sheaf
