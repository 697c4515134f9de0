#include "router/api/openai/chat_fields.h"

#include <optional>
#include <string>
#include <utility>

#include "router/api/request/json/excerpt.h"

namespace sheaf {
namespace {

std::string At(const char* list, size_t index, const char* rest = "") {
  return std::string(list) + "[" + std::to_string(index) + "]" + rest;
}

// Bytes of what a message says: content, as a text or in parts.
size_t ContentBytes(const Json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return 0;
  const auto text_bytes = [](const Json& value) {
    return value.is_string() ? value.get_ref<const std::string&>().size() : 0;
  };
  size_t bytes = text_bytes(*content);
  if (!content->is_array()) return bytes;
  for (const Json& part : *content) {
    bytes += text_bytes(part);
    if (const auto text = part.is_object() ? part.find("text") : part.end(); text != part.end()) {
      bytes += text_bytes(*text);
    }
  }
  return bytes;
}

void ReadMessages(JsonFields& fields, ChatInput& chat) {
  const Json* messages = fields.Find("messages");
  if (messages == nullptr) return fields.Fail("messages", "is required");
  if (!messages->is_array()) return fields.WrongType("messages", "a list of messages", *messages);
  if (messages->empty()) return fields.Fail("messages", "must not be empty");
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    if (!message.is_object()) {
      fields.WrongType(At("messages", i), "an object", message);
    } else if (!message.contains("role") || !message["role"].is_string()) {
      fields.Fail(At("messages", i, ".role"), "is required and must be a text");
    } else {
      chat.content_bytes += ContentBytes(message);
    }
  }
  chat.messages_json = JsonText(*messages);
}

// One function as `tools` and, before that, `functions` declare it. `definition` is what the
// template prints.
void ReadFunction(JsonFields& fields, const std::string& at, const Json& function,
                  const Json& definition, ChatInput& chat) {
  ToolDefinition tool;
  const auto name = function.find("name");
  if (name == function.end() || !name->is_string()) {
    return fields.Fail(at + ".name", "is required and must be a text");
  }
  tool.name = name->get<std::string>();
  if (const auto text = function.find("description");
      text != function.end() && !text->is_null() && !text->is_string()) {
    return fields.WrongType(at + ".description", "a text", *text);
  }
  if (const auto parameters = function.find("parameters");
      parameters != function.end() && !parameters->is_null()) {
    if (!parameters->is_object()) {
      return fields.WrongType(at + ".parameters", "a JSON Schema object", *parameters);
    }
    tool.parameters_json = JsonText(*parameters);
  }
  if (const auto strict = function.find("strict"); strict != function.end() && !strict->is_null()) {
    if (!strict->is_boolean()) {
      return fields.WrongType(at + ".strict", "true or false", *strict);
    }
    tool.strict = strict->get<bool>();
  }
  tool.definition_json = JsonText(definition);
  chat.tools.push_back(std::move(tool));
}

void ReadTools(JsonFields& fields, ChatInput& chat) {
  const Json* tools = fields.Find("tools");
  const Json* functions = fields.Find("functions");
  if (tools != nullptr && functions != nullptr && !functions->empty()) {
    return fields.Fail("functions", "excludes tools");
  }
  const char* list = tools != nullptr ? "tools" : "functions";
  const Json* declared = tools != nullptr ? tools : functions;
  if (declared == nullptr) return;
  if (!declared->is_array()) return fields.WrongType(list, "a list", *declared);
  for (size_t i = 0; i < declared->size(); ++i) {
    const Json& tool = (*declared)[i];
    if (!tool.is_object()) {
      fields.WrongType(At(list, i), "an object", tool);
      continue;
    }
    if (tools == nullptr) {
      ReadFunction(fields, At(list, i), tool, {{"type", "function"}, {"function", tool}}, chat);
      continue;
    }
    if (const auto type = tool.find("type"); type != tool.end() && *type != "function") {
      fields.Fail(At(list, i, ".type"),
                  "only \"function\" is supported, got " + Excerpt(JsonText(*type)));
      continue;
    }
    const auto function = tool.find("function");
    if (function == tool.end() || !function->is_object()) {
      fields.Fail(At(list, i, ".function"), "is required and must be an object");
      continue;
    }
    ReadFunction(fields, At(list, i, ".function"), *function, tool, chat);
  }
}

// {"function": {"name": ...}}
std::optional<std::string> FunctionName(const Json& choice) {
  const auto function = choice.find("function");
  if (function == choice.end() || !function->is_object()) return std::nullopt;
  const auto name = function->find("name");
  if (name == function->end() || !name->is_string()) return std::nullopt;
  return name->get<std::string>();
}

std::optional<ToolChoice::Mode> ModeOf(const Json& word) {
  if (word == "auto") return ToolChoice::Mode::kAuto;
  if (word == "none") return ToolChoice::Mode::kNone;
  if (word == "required") return ToolChoice::Mode::kRequired;
  return std::nullopt;
}

std::optional<ToolChoice> ReadAllowedTools(JsonFields& fields, const Json& choice) {
  // The fields stand in an object of their own in one API and beside the type in another.
  const auto inner = choice.find("allowed_tools");
  const Json& allowed = inner != choice.end() && inner->is_object() ? *inner : choice;
  const auto mode = allowed.contains("mode") ? ModeOf(allowed["mode"]) : ToolChoice::Mode::kAuto;
  const auto tools = allowed.find("tools");
  if (!mode || *mode == ToolChoice::Mode::kNone) {
    fields.Fail("tool_choice", "allowed_tools.mode must be auto or required");
    return std::nullopt;
  }
  ToolChoice result{.mode = *mode};
  if (tools != allowed.end() && tools->is_array()) {
    for (const Json& tool : *tools) {
      auto name = tool.is_object() ? FunctionName(tool) : std::nullopt;
      if (!name && tool.is_object() && tool.value("name", Json()).is_string()) {
        name = tool["name"].get<std::string>();
      }
      if (name) result.allowed.push_back(*std::move(name));
    }
  }
  if (result.allowed.empty() || result.allowed.size() != tools->size()) {
    fields.Fail("tool_choice", "allowed_tools.tools must be a list of tools with names");
    return std::nullopt;
  }
  return result;
}

void ReadToolChoice(JsonFields& fields, ChatInput& chat) {
  const Json* choice = fields.Find("tool_choice");
  const char* field = "tool_choice";
  if (choice == nullptr) {
    choice = fields.Find("function_call");  // the field's name before there were tools
    field = "function_call";
  }
  if (choice == nullptr) return;
  if (const auto mode = ModeOf(*choice)) {
    chat.tool_choice = ToolChoice{.mode = *mode};
    return;
  }
  if (choice->is_object()) {
    const Json type = choice->value("type", Json());
    if (type == "allowed_tools") {
      chat.tool_choice = ReadAllowedTools(fields, *choice);
      return;
    }
    auto name = FunctionName(*choice);
    if (!name && choice->value("name", Json()).is_string()) {
      name = (*choice)["name"].get<std::string>();
    }
    if ((type.is_null() || type == "function") && name) {
      chat.tool_choice = ToolChoice{ToolChoice::Mode::kRequired, {*std::move(name)}, true};
      return;
    }
  }
  fields.WrongType(field,
                   "\"auto\", \"none\", \"required\" or {\"type\": \"function\", \"function\": "
                   "{\"name\": ...}}",
                   *choice);
}

// {"type": "enabled"} or "disabled", or a plain bool: other servers' ways to say enable_thinking.
std::optional<bool> ReadThinking(JsonFields& fields) {
  const Json* thinking = fields.Find("thinking");
  if (thinking == nullptr) return std::nullopt;
  if (thinking->is_boolean()) return thinking->get<bool>();
  const Json type = thinking->is_object() ? thinking->value("type", Json()) : Json();
  if (type == "enabled") return true;
  if (type == "disabled") return false;
  fields.WrongType("thinking", "true, false or {\"type\": \"enabled\" or \"disabled\"}", *thinking);
  return std::nullopt;
}

void ReadThoughts(JsonFields& fields, ChatInput& chat) {
  chat.enable_thinking = fields.Bool("enable_thinking");
  const std::optional<bool> thinking = ReadThinking(fields);
  if (thinking && chat.enable_thinking && thinking != chat.enable_thinking) {
    fields.Fail("thinking", "disagrees with enable_thinking");
  }
  if (thinking) chat.enable_thinking = thinking;
  chat.reasoning_effort = fields.String("reasoning_effort");
  chat.thinking_token_budget = fields.Integer("thinking_token_budget");
  chat.include_reasoning = fields.Bool("include_reasoning").value_or(true);
}

}  // namespace

void ReadChat(JsonFields& fields, ParsedRequest& request) {
  ChatInput chat;
  ReadMessages(fields, chat);
  ReadTools(fields, chat);
  ReadToolChoice(fields, chat);
  ReadThoughts(fields, chat);
  chat.parallel_tool_calls = fields.Bool("parallel_tool_calls").value_or(true);
  chat.template_arguments_json = fields.ObjectText("chat_template_kwargs");
  if (const Json* documents = fields.Find("documents")) {
    if (documents->is_array()) {
      chat.documents_json = JsonText(*documents);
    } else {
      fields.WrongType("documents", "a list", *documents);
    }
  }
  chat.chat_template = fields.String("chat_template").value_or("");
  chat.add_generation_prompt = fields.Bool("add_generation_prompt");
  chat.continue_final_message = fields.Bool("continue_final_message").value_or(false);
  request.chat = std::move(chat);
}

}  // namespace sheaf
