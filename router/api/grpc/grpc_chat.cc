#include "router/api/grpc/grpc_chat.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

// The arguments stay text: whoever renders them parses them, for both faces alike.
Json MessageJson(const v1::ChatMessage& message) {
  Json json{{"role", message.role()}, {"content", message.content()}};
  if (message.has_reasoning_content()) json["reasoning_content"] = message.reasoning_content();
  for (const v1::ToolCall& call : message.tool_calls()) {
    Json& entry = json["tool_calls"].emplace_back(Json::object());
    if (call.has_id()) entry["id"] = call.id();
    entry["type"] = "function";
    entry["function"] = {
        {"name", call.name()},
        {"arguments", call.has_arguments_json() ? call.arguments_json() : std::string("{}")}};
  }
  if (message.has_tool_call_id()) json["tool_call_id"] = message.tool_call_id();
  return json;
}

ToolDefinition ParseTool(const v1::Tool& tool, int index, std::vector<FieldViolation>& violations) {
  Json function{{"name", tool.name()}};
  if (tool.has_description()) function["description"] = tool.description();
  if (tool.has_parameters_json()) {
    auto parameters = ParseRequestJson(tool.parameters_json(), "is");
    if (const auto* error = std::get_if<ApiError>(&parameters)) {
      violations.push_back({absl::StrFormat("tools[%d].function.parameters", index),
                            std::string(error->status.message())});
    } else {
      function["parameters"] = std::get<Json>(std::move(parameters));
    }
  }
  if (tool.has_strict()) function["strict"] = tool.strict();
  ToolDefinition definition;
  definition.name = tool.name();
  definition.definition_json =
      JsonText(Json{{"type", "function"}, {"function", std::move(function)}});
  definition.parameters_json = tool.parameters_json();
  definition.strict = tool.strict();
  return definition;
}

ToolChoice ParseToolChoice(const v1::ToolChoice& message) {
  ToolChoice choice;
  switch (message.mode()) {
    case v1::ToolChoice::MODE_NONE:
      choice.mode = ToolChoice::Mode::kNone;
      break;
    case v1::ToolChoice::MODE_REQUIRED:
      choice.mode = ToolChoice::Mode::kRequired;
      break;
    default:  // also modes of a later version of the proto
      choice.mode = ToolChoice::Mode::kAuto;
      break;
  }
  choice.allowed.assign(message.allowed().begin(), message.allowed().end());
  choice.named = choice.mode == ToolChoice::Mode::kRequired && choice.allowed.size() == 1;
  return choice;
}

}  // namespace

ChatInput ParseChat(const v1::ChatInput& chat, size_t max_content_bytes,
                    std::vector<FieldViolation>& violations) {
  ChatInput input;
  for (const v1::ChatMessage& message : chat.messages()) {
    input.content_bytes += message.content().size();
  }
  if (input.content_bytes > max_content_bytes) return input;
  Json messages = Json::array();
  for (const v1::ChatMessage& message : chat.messages()) messages.push_back(MessageJson(message));
  input.messages_json = JsonText(messages);
  input.template_arguments_json = chat.template_arguments_json();
  if (chat.has_add_generation_prompt()) input.add_generation_prompt = chat.add_generation_prompt();
  input.continue_final_message = chat.continue_final_message();
  for (int i = 0; i < chat.tools_size(); ++i) {
    input.tools.push_back(ParseTool(chat.tools(i), i, violations));
  }
  if (chat.has_tool_choice()) input.tool_choice = ParseToolChoice(chat.tool_choice());
  if (chat.has_parallel_tool_calls()) input.parallel_tool_calls = chat.parallel_tool_calls();
  if (chat.has_enable_thinking()) input.enable_thinking = chat.enable_thinking();
  if (chat.has_reasoning_effort()) input.reasoning_effort = chat.reasoning_effort();
  if (chat.has_thinking_token_budget()) input.thinking_token_budget = chat.thinking_token_budget();
  return input;
}

}  // namespace sheaf
