#pragma once
// From sheaf.v1 request messages to ParsedRequest, and from events to response messages.
//
// Threads: pure functions. Nothing is validated here but the shape.

#include "router/api/generation/generation_call.h"
#include "router/api/request/parsed_request.h"
#include "router/api/request/request_validation.h"
#include "router/api/request/text_codec.h"
#include "sheaf/v1/inference.pb.h"

namespace sheaf {

ParsedRequest ParseGenerateRequest(const v1::GenerateRequest& message);
ParsedRequest ParseTokenizeRequest(const v1::TokenizeRequest& message);

v1::GenerateResponse PromptMessage(const PreparedRequest& prepared, uint64_t seed,
                                   const std::string& model, bool with_token_ids);

// Tokens that came together become one delta, the end a message of its own. Appends to `messages`.
void AppendMessages(std::vector<ChoiceEvent> events, const TextCodec& codec,
                    std::vector<v1::GenerateResponse>& messages);

}  // namespace sheaf
