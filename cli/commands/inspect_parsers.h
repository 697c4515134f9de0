#pragma once
// What `sheaf inspect` says of a checkpoint's chat template: which parsers "auto" takes for the
// model's thoughts and tool calls.
//
// Pure functions. `chat_template`: null = the checkpoint has none.

#include <string>
#include <string_view>

#include "router/text/chat_template.h"

namespace sheaf {

// Lines for a reader, after a line of their own.
std::string ParsersText(const ChatTemplate* chat_template);

// `report_json` (InspectJson's) with three members more: chat_template (boolean),
// tool_call_parser and reasoning_parser ("glm45", "glm47" or "none").
std::string WithParsersJson(std::string_view report_json, const ChatTemplate* chat_template);

}  // namespace sheaf
