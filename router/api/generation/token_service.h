#pragma once
// Tokenize and detokenize, the same for both faces.
//
// Threads: any; tokenizing takes its time, so call it on the PreparationPool.
// Errors: kNotFound (model), kInvalidArgument with violations, kCancelled (the client has left).
//
// A text that could not fit the context is refused, as where it is to be run.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "router/api/generation/api_context.h"
#include "router/api/request/api_error.h"
#include "router/api/request/parsed_request.h"

namespace sheaf {

// Of `request` only model, the first prompt (a text, which may be empty) or the chat, and
// add_special_tokens count.
ApiResult<std::vector<TokenId>> TokenizeInput(const ParsedRequest& request,
                                              const ApiContext& context,
                                              const ClientLeft& client_left);

ApiResult<std::string> DetokenizeInput(const std::optional<std::string>& model,
                                       const std::vector<int64_t>& tokens, bool skip_special_tokens,
                                       const ApiContext& context);

}  // namespace sheaf
