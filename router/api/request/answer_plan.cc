#include "router/api/request/answer_plan.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "router/text/output/json_text.h"

namespace sheaf {
namespace {

using Mode = ToolChoice::Mode;

ToolChoice ChoiceOf(const ChatInput& chat) {
  if (chat.tools.empty()) return {.mode = Mode::kNone};
  return chat.tool_choice.value_or(ToolChoice{});
}

bool IsAllowed(const ToolChoice& choice, const std::string& name) {
  return choice.allowed.empty() ||
         std::find(choice.allowed.begin(), choice.allowed.end(), name) != choice.allowed.end();
}

bool CallsAreGuided(const ChatInput& chat, const ToolChoice& choice) {
  if (choice.mode == Mode::kNone) return false;
  // Where only some are allowed, that alone needs a grammar, whichever of them are strict.
  return choice.mode == Mode::kRequired || !choice.allowed.empty() || !chat.parallel_tool_calls ||
         std::any_of(chat.tools.begin(), chat.tools.end(),
                     [](const ToolDefinition& tool) { return tool.strict; });
}

// The grammar that calls are held to; nothing where they are free.
std::optional<GrammarSpec> CallGrammar(const ChatInput& chat, const OutputFormat& format) {
  const ToolChoice choice = ChoiceOf(chat);
  if (!CallsAreGuided(chat, choice)) return std::nullopt;
  const bool required = choice.mode == Mode::kRequired;
  GrammarSpec spec;
  spec.kind = GrammarKind::kToolCalls;
  for (const ToolDefinition& tool : chat.tools) {
    if (!IsAllowed(choice, tool.name)) continue;
    spec.tool_calls.tools.push_back({tool.name, tool.parameters_json, required || tool.strict});
  }
  spec.tool_calls.format =
      format.tools == TagFormat::kGlm47 ? ToolCallFormat::kGlm47 : ToolCallFormat::kGlm45;
  spec.tool_calls.min_calls = required ? 1 : 0;
  spec.tool_calls.max_calls = choice.named || !chat.parallel_tool_calls ? 1 : -1;
  spec.tool_calls.text_around = !required;
  return spec;
}

absl::StatusOr<std::shared_ptr<const DeclaredTools>> Declared(const ChatInput& chat) {
  const ToolChoice choice = ChoiceOf(chat);
  if (choice.mode == Mode::kNone) return std::shared_ptr<const DeclaredTools>();
  std::vector<ToolDeclaration> declarations;
  for (const ToolDefinition& tool : chat.tools) {
    if (IsAllowed(choice, tool.name)) declarations.push_back({tool.name, tool.parameters_json});
  }
  auto tools = DeclaredTools::Create(declarations);
  if (!tools.ok()) return tools.status();
  return std::make_shared<const DeclaredTools>(*std::move(tools));
}

ThoughtStart StartOfThoughts(const ChatInput& chat, std::string_view prompt,
                             const OutputFormat& format) {
  if (format.reasoning == TagFormat::kNone || !format.tags.think_end) {
    return ThoughtStart::kNoThoughts;
  }
  if (chat.continue_final_message || StripSpace(prompt).ends_with("</think>")) {
    return ThoughtStart::kNoThoughts;
  }
  if (FindOutputStart(prompt) == OutputStart::kThoughts) return ThoughtStart::kInside;
  return format.reasoning == TagFormat::kGlm45 ? ThoughtStart::kWrittenByModel
                                               : ThoughtStart::kNoThoughts;
}

}  // namespace

bool NeedsGrammar(const ParsedRequest& request) {
  return request.constraint ||
         (request.chat && CallsAreGuided(*request.chat, ChoiceOf(*request.chat)));
}

ApiResult<AnswerPlan> PlanAnswer(const ParsedRequest& request, std::string_view prompt,
                                 const TextCodec& codec, const ApiSettings& settings) {
  AnswerPlan plan;
  GuidePlan guide;
  std::optional<GrammarSpec> grammar;
  std::string grammar_field;
  if (request.constraint) {
    grammar = request.constraint->grammar;
    grammar->any_whitespace =
        request.constraint->any_whitespace.value_or(settings.json_any_whitespace);
    grammar_field = request.constraint->field;
  }
  if (request.chat) {
    const ChatInput& chat = *request.chat;
    plan.output.format = codec.output_format();
    plan.output.start = FindOutputStart(prompt);
    plan.output.keep_leading_space = chat.continue_final_message;
    auto tools = Declared(chat);
    if (!tools.ok()) return InvalidFields({{"tools", std::string(tools.status().message())}});
    plan.output.tools = *std::move(tools);
    if (auto calls = CallGrammar(chat, plan.output.format)) {
      if (grammar) {
        return InvalidFields({{grammar_field,
                               "excludes strict tools, allowed_tools and parallel_tool_calls = "
                               "false: one grammar at a time"}});
      }
      grammar = *std::move(calls);
      grammar_field = "tools";
    }
    const OutputTags& tags = plan.output.format.tags;
    guide.start = StartOfThoughts(chat, prompt, plan.output.format);
    guide.tags = {tags.think_begin, tags.think_end, tags.call_begin};
    if (chat.thinking_token_budget) {
      guide.thinking_token_budget = static_cast<int32_t>(*chat.thinking_token_budget);
    }
    if (plan.output.format.reasoning == TagFormat::kGlm45) {
      auto open = codec.Encode("\n<think>", /*add_special_tokens=*/false);
      auto before = codec.Encode("\n", /*add_special_tokens=*/false);
      if (!open.ok()) return ApiError{open.status(), {}, {}};
      if (!before.ok()) return ApiError{before.status(), {}, {}};
      guide.open_thoughts = *std::move(open);
      guide.before_answer = *std::move(before);
    }
  }
  if (grammar) {
    auto compiled = codec.CompileGrammar(*grammar);
    if (!compiled.ok()) {
      if (!absl::IsInvalidArgument(compiled.status())) return ApiError{compiled.status(), {}, {}};
      return InvalidFields({{grammar_field, std::string(compiled.status().message())}});
    }
    guide.grammar = *std::move(compiled);
  }
  const bool counts = request.chat && plan.output.format.reasoning != TagFormat::kNone;
  if (counts || guide.constrains()) {
    plan.guide = std::make_shared<const GuidePlan>(std::move(guide));
  }
  return plan;
}

}  // namespace sheaf
