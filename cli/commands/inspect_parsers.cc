#include "cli/commands/inspect_parsers.h"

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "router/text/output/output_format.h"

namespace sheaf {
namespace {

TagFormats FormatsOf(const ChatTemplate* chat_template) {
  return chat_template == nullptr ? TagFormats{} : DetectTagFormats(*chat_template);
}

std::string Line(const char* what, TagFormat format, const char* without) {
  return absl::StrFormat("  %-12s auto -> %s%s\n", what, TagFormatName(format),
                         format == TagFormat::kNone ? without : "");
}

}  // namespace

std::string ParsersText(const ChatTemplate* chat_template) {
  if (chat_template == nullptr) {
    return "\nParsers: none; there is no chat template, so completions are served and chats are "
           "not\n";
  }
  const TagFormats formats = FormatsOf(chat_template);
  return "\nParsers of the output, by the chat template:\n" +
         Line("tool calls", formats.tools, ": the template writes no calls in a known format") +
         Line("thoughts", formats.reasoning, ": the template writes no thoughts in a known format");
}

std::string WithParsersJson(std::string_view report_json, const ChatTemplate* chat_template) {
  using Json = nlohmann::ordered_json;
  const TagFormats formats = FormatsOf(chat_template);
  Json json = Json::parse(report_json);
  json["chat_template"] = chat_template != nullptr;
  json["tool_call_parser"] = TagFormatName(formats.tools);
  json["reasoning_parser"] = TagFormatName(formats.reasoning);
  return json.dump(2) + "\n";
}

}  // namespace sheaf
