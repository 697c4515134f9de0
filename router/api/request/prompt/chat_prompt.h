#pragma once
// ChatPromptText: a chat as the text that the model continues.
//
// Threads: pure. Cost: that of the template.
// Errors: kInvalidArgument with the field to blame: the template refuses the messages, options that
// exclude each other, a continued message that the template does not end with.

#include <string>

#include "router/api/request/api_error.h"
#include "router/api/request/parsed_request.h"
#include "router/api/request/prompt/text_codec.h"

namespace sheaf {

// The variables of the template: the client's own, and what enable_thinking and reasoning_effort
// mean to it.
ApiResult<std::string> TemplateArguments(const ChatInput& chat);

// With continue_final_message the text ends with the last message's content, which is cut off
// before whatever the template writes behind it.
ApiResult<RenderedChat> ChatPromptText(const ChatInput& chat, const TextCodec& codec);

}  // namespace sheaf
