#pragma once
// Validation: from a ParsedRequest to requests that the engine can run, or to every field that is
// wrong with it.
//
// All checks that need no tokens come first (CheckFields), so a wrong request costs no tokenizing;
// then the prompts are rendered and tokenized, grammars compiled, and lengths checked. Absent
// sampling fields take the checkpoint's generation_config.json, else the server's defaults
// (temperature 1, no truncation, no penalties).
//
// Long texts are refused before they are tokenized (text_bounds.h), and given up once they have
// more tokens than the context or nobody waits for them any more.
//
// Threads    pure functions. Cost: CheckFields microseconds; PrepareRequest tokenizes (4 MB/s, at
//            most a context without truncate_prompt_tokens).

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "router/api/request/answer_plan.h"
#include "router/api/request/api_error.h"
#include "router/api/request/api_settings.h"
#include "router/api/request/limits.h"
#include "router/api/request/parsed_request.h"
#include "router/api/request/prompt/text_codec.h"
#include "router/api/request/served_model.h"
#include "router/schedule/generation.h"

namespace sheaf {

struct PreparedPrompt {
  std::vector<TokenId> tokens;
  bool given_up = false;  // longer than the context: `tokens` is a beginning
  std::string text;  // as sent or rendered; decoded where token ids were sent and echo needs it
};

struct PreparedRequest {
  std::string request_id;
  std::vector<PreparedPrompt> prompts;
  ChatOutputPlan output;      // how the output of a chat is read
  uint64_t call_id_seed = 0;  // of the ids of its calls; choice i has call_id_seed + (i << 32)
  int n = 1;
  // prompts.size() * n, in order of prompt, then sample. Sample i of a prompt has seed + i.
  std::vector<GenerationRequest> choices;
  int doubled_prefixes = 0;  // prompts that begin with TextCodec::prompt_prefix twice
  bool drop_output = false;  // echo with max_tokens 0: only the prompt is wanted
};

// Whether nobody waits for the answer any more; once true, for good. Empty: never. Any thread.
using ClientLeft = std::function<bool()>;

struct ValidationContext {
  const ServedModel& model;
  const RequestLimits& limits;
  const ApiSettings& settings;
  const TextCodec& codec;
  int32_t max_model_len;
  const std::function<uint64_t()>& random;  // seeds and names of requests that have none
  ClientLeft client_left = {};
};

// An unknown name: kNotFound.
std::optional<ApiError> CheckModelName(const std::optional<std::string>& name,
                                       const ServedModel& model);

// Everything that can be said without tokens. Empty: nothing wrong so far.
std::vector<FieldViolation> CheckFields(const ParsedRequest& request,
                                        const ValidationContext& context);

// "[field]: token id 99 is outside the vocabulary [0, 64)" for the first such id.
std::optional<FieldViolation> CheckTokenIds(const std::string& field,
                                            const std::vector<int64_t>& ids, int vocab_size);

// Errors: kInvalidArgument with violations, kNotFound (model), kCancelled (client_left).
ApiResult<PreparedRequest> PrepareRequest(const ParsedRequest& request,
                                          const ValidationContext& context);

}  // namespace sheaf
