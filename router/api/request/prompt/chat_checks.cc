#include "router/api/request/prompt/chat_checks.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <set>
#include <string>

#include "absl/strings/str_format.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

constexpr size_t kMaxToolNameBytes = 128;
constexpr std::array kEfforts = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};

// A name is written into the prompt and read back from the output between tags: no white space and
// nothing that could be taken for a tag.
bool IsToolName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxToolNameBytes &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '_' || c == '-' || c == '.';
         });
}

std::string Shortened(const std::string& text) {
  return text.size() <= 64 ? text : text.substr(0, 61) + "...";
}

class ChatChecker {
 public:
  ChatChecker(const ChatInput& chat, const ValidationContext& context,
              std::vector<FieldViolation>& violations)
      : chat_(chat), context_(context), violations_(violations) {}

  void Fail(std::string field, std::string description) {
    violations_.push_back({std::move(field), std::move(description)});
  }

  void CheckTools() {
    const size_t limit = context_.limits.max_tools;
    if (chat_.tools.size() > limit) {
      Fail("tools", absl::StrFormat("at most %d tools, got %d", limit, chat_.tools.size()));
      return;
    }
    for (size_t i = 0; i < chat_.tools.size(); ++i) {
      const ToolDefinition& tool = chat_.tools[i];
      const std::string field = absl::StrFormat("tools[%d].function", i);
      if (!IsToolName(tool.name)) {
        Fail(field + ".name", absl::StrFormat("must be 1 to %d of A-Z a-z 0-9 _ - . , got \"%s\"",
                                              kMaxToolNameBytes, Shortened(tool.name)));
      } else if (!names_.insert(tool.name).second) {
        Fail(field + ".name", absl::StrFormat("\"%s\" is declared twice", tool.name));
      }
      if (!tool.parameters_json.empty()) {
        CheckSchema(field + ".parameters", tool.parameters_json);
      }
    }
    if (!chat_.tools.empty() && context_.codec.output_format().tools == TagFormat::kNone &&
        Calls()) {
      Fail("tools",
           "the checkpoint's chat template has no tool calls that this server can read "
           "(--tool-call-parser)");
    }
  }

  void CheckToolChoice() {
    if (!chat_.tool_choice) return;
    const ToolChoice& choice = *chat_.tool_choice;
    if (chat_.tools.empty()) {
      if (choice.mode == ToolChoice::Mode::kRequired) Fail("tool_choice", "needs tools");
      return;
    }
    for (const std::string& name : choice.allowed) {
      if (!names_.contains(name)) {
        Fail("tool_choice",
             absl::StrFormat("there is no tool \"%s\" among the declared ones", Shortened(name)));
      }
    }
  }

  void CheckThoughts() {
    if (chat_.reasoning_effort &&
        std::find(kEfforts.begin(), kEfforts.end(), *chat_.reasoning_effort) == kEfforts.end()) {
      Fail("reasoning_effort",
           absl::StrFormat("must be none, minimal, low, medium, high, xhigh or max, got \"%s\"",
                           Shortened(*chat_.reasoning_effort)));
    }
    if (chat_.enable_thinking && chat_.reasoning_effort &&
        *chat_.enable_thinking == (*chat_.reasoning_effort == "none")) {
      Fail("reasoning_effort",
           absl::StrFormat("\"%s\" and enable_thinking = %s exclude each other",
                           *chat_.reasoning_effort, *chat_.enable_thinking ? "true" : "false"));
    }
    if (const auto budget = chat_.thinking_token_budget) {
      if (*budget < 0 || *budget > std::numeric_limits<int32_t>::max()) {
        Fail("thinking_token_budget", absl::StrFormat("must be at least 0, got %d", *budget));
      } else if (context_.codec.output_format().reasoning == TagFormat::kNone) {
        Fail("thinking_token_budget", "the model's thoughts are not told apart here");
      }
    }
  }

  void CheckContinuation() {
    if (!chat_.continue_final_message) return;
    if (chat_.add_generation_prompt == true) {
      Fail("continue_final_message", "excludes add_generation_prompt = true");
    }
    const Json messages = Json::parse(chat_.messages_json, nullptr, false);
    if (!messages.is_array() || messages.empty() ||
        messages.back().value("role", Json()) != "assistant") {
      Fail("continue_final_message", "the last message must be the assistant's");
    }
  }

  void CheckTemplate() {
    if (!chat_.chat_template.empty() && !context_.settings.trust_request_chat_template) {
      Fail("chat_template",
           "a request's own template is refused here (--trust-request-chat-template)");
    }
  }

 private:
  bool Calls() const {
    return !chat_.tool_choice || chat_.tool_choice->mode != ToolChoice::Mode::kNone;
  }

  void CheckSchema(const std::string& field, const std::string& text) {
    const Json schema = Json::parse(text, nullptr, false);
    if (!schema.is_object()) {
      Fail(field, "must be a JSON Schema object");
      return;
    }
    const auto type = schema.find("type");
    if (type != schema.end() && *type != "object") {
      Fail(field + ".type", "the arguments are an object, got " + Shortened(JsonText(*type)));
    }
    const auto properties = schema.find("properties");
    if (properties != schema.end() && !properties->is_object()) {
      Fail(field + ".properties", "must be an object");
    }
  }

  const ChatInput& chat_;
  const ValidationContext& context_;
  std::vector<FieldViolation>& violations_;
  std::set<std::string> names_;
};

}  // namespace

void CheckChat(const ParsedRequest& request, const ValidationContext& context,
               std::vector<FieldViolation>& violations) {
  const ChatInput& chat = *request.chat;
  ChatChecker check(chat, context, violations);
  if (!context.codec.has_chat_template() && chat.chat_template.empty()) {
    check.Fail("messages", "the checkpoint has no chat template; send a prompt instead");
    return;
  }
  check.CheckTools();
  check.CheckToolChoice();
  check.CheckThoughts();
  check.CheckContinuation();
  check.CheckTemplate();
  const bool must_call = chat.tool_choice && chat.tool_choice->mode == ToolChoice::Mode::kRequired;
  if (must_call && request.constraint) {
    check.Fail(request.constraint->field, "excludes tool_choice = required or a named tool");
  }
}

}  // namespace sheaf
