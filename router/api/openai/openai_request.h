#pragma once
// From the JSON bodies of the OpenAI endpoints to ParsedRequest. Fields nobody knows are accepted
// and named in `unknown_fields`, as clients send extensions of other servers all the time; fields
// that would change the answer and are not supported are errors.
//
// Threads: pure functions. Errors: kInvalidArgument: not JSON, wrong types, unsupported features.

#include <string>
#include <string_view>
#include <vector>

#include "router/api/request/api_error.h"
#include "router/api/request/parsed_request.h"

namespace sheaf {

struct OpenAiRequest {
  ParsedRequest request;
  bool stream = false;
  bool include_usage = false;           // stream_options: a last chunk with usage
  bool continuous_usage_stats = false;  // and usage in every chunk
  bool show_prompt_logprobs = false;    // asked for as such, not only by echo
  bool return_token_ids = false;
  bool return_tokens_as_token_ids = false;
  std::vector<std::string> unknown_fields;
};

ApiResult<OpenAiRequest> ParseCompletionBody(std::string_view body);
ApiResult<OpenAiRequest> ParseChatBody(std::string_view body);

struct TokenizeBody {
  ParsedRequest request;  // one prompt or a chat
  bool return_token_strs = false;
};

struct DetokenizeBody {
  std::optional<std::string> model;
  std::vector<int64_t> tokens;
};

ApiResult<TokenizeBody> ParseTokenizeBody(std::string_view body);
ApiResult<DetokenizeBody> ParseDetokenizeBody(std::string_view body);

}  // namespace sheaf
