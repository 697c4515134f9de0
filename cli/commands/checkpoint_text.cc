#include "cli/commands/checkpoint_text.h"

#include <ctime>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "router/text/guide/matcher_grammar.h"
#include "router/text/template_files.h"
#include "router/text/template_probe.h"

namespace sheaf {

namespace {

TagFormat FormatOf(const std::string& choice, TagFormat detected) {
  if (choice == "glm45") return TagFormat::kGlm45;
  if (choice == "glm47") return TagFormat::kGlm47;
  return choice == "none" ? TagFormat::kNone : detected;
}

// A parser that reads another format than the chat template writes takes calls for content.
void RemarkOnParser(const char* flag, TagFormat chosen, TagFormat detected,
                    std::vector<std::string>& remarks) {
  if (chosen == detected || chosen == TagFormat::kNone || detected == TagFormat::kNone) return;
  remarks.push_back(absl::StrFormat("%s %s: the chat template writes %s", flag,
                                    TagFormatName(chosen), TagFormatName(detected)));
}

// Seconds since 1970 as the local clock shows them.
int64_t LocalSeconds() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return static_cast<int64_t>(now) + local.tm_gmtoff;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadChatTemplate(const std::string& checkpoint_dir) {
  auto chat_template = ChatTemplate::Load(checkpoint_dir);
  if (absl::IsNotFound(chat_template.status())) return nullptr;
  return chat_template;
}

absl::StatusOr<std::unique_ptr<CheckpointText>> CheckpointText::Load(
    const std::string& checkpoint_dir, size_t vocab_size, const ParserChoice& parsers,
    bool escape_special_tokens) {
  std::unique_ptr<CheckpointText> text(new CheckpointText);
  text->escape_special_tokens_ = escape_special_tokens;
  text->vocab_size_ = static_cast<int>(vocab_size);
  SHEAF_ASSIGN_OR_RETURN(text->tokenizer_, Tokenizer::Load(checkpoint_dir));
  text->remarks_ = text->tokenizer_->Remarks();
  if (text->tokenizer_->VocabSize() > vocab_size) {
    text->remarks_.push_back(absl::StrFormat(
        "tokenizer.json has token ids up to %d, the model %d rows: prompts with ids beyond are "
        "refused",
        text->tokenizer_->VocabSize() - 1, vocab_size));
  }
  SHEAF_ASSIGN_OR_RETURN(text->eos_token_, ReadEosToken(checkpoint_dir));
  auto chat_template = LoadChatTemplate(checkpoint_dir);
  text->template_error_ = chat_template.status();
  if (chat_template.ok()) text->chat_template_ = *std::move(chat_template);
  SHEAF_RETURN_IF_ERROR(text->ProbeChatTemplate());
  TagFormats detected;
  if (text->chat_template_) detected = DetectTagFormats(*text->chat_template_);
  text->output_format_ = {FormatOf(parsers.tool_calls, detected.tools),
                          FormatOf(parsers.reasoning, detected.reasoning),
                          FindOutputTags(*text->tokenizer_)};
  RemarkOnParser("--tool-call-parser", text->output_format_.tools, detected.tools, text->remarks_);
  RemarkOnParser("--reasoning-parser", text->output_format_.reasoning, detected.reasoning,
                 text->remarks_);
  SHEAF_ASSIGN_OR_RETURN(text->grammars_, GrammarCompiler::Create(*text->tokenizer_, vocab_size));
  return text;
}

absl::Status CheckpointText::ProbeChatTemplate() {
  const auto prefix = tokenizer_->Encode("", /*add_special_tokens=*/true);
  if (prefix.ok()) prompt_prefix_ = *prefix;
  if (!template_error_.ok()) {
    remarks_.push_back(
        absl::StrFormat("the chat template cannot be used, so completions are served and chats are "
                        "not: %s",
                        template_error_.message()));
  }
  if (chat_template_ == nullptr) return absl::OkStatus();
  TemplateProbe probe = ProbeTemplate(*chat_template_, *tokenizer_);
  if (!probe.torn_role_tokens.empty()) {
    const TornToken& torn = probe.torn_role_tokens.front();
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the chat template writes %s, which tokenizer.json and "
                        "tokenizer_config.json do not have as one token (it is cut into %d)",
                        chat_template_->name(), torn.text, torn.num_pieces));
  }
  for (const TornToken& torn : probe.torn_tags) {
    remarks_.push_back(absl::StrFormat("%s: the chat template writes %s, which is %d tokens",
                                       chat_template_->name(), torn.text, torn.num_pieces));
  }
  for (std::string& failure : probe.failures) remarks_.push_back(std::move(failure));
  if (!probe.chats_at_all) {
    remarks_.push_back("the chat template cannot render a question: chats will be refused, "
                       "completions are served");
  }
  turn_ends_ = std::move(probe.turn_ends);
  if (prompt_prefix_.empty()) prompt_prefix_ = std::move(probe.prefix);
  return absl::OkStatus();
}

absl::StatusOr<RenderedChat> CheckpointText::RenderChat(const ChatInput& chat) const {
  std::string tools;
  for (const ToolDefinition& tool : chat.tools) {
    tools += (tools.empty() ? "[" : ",") + tool.definition_json;
  }
  if (!tools.empty()) tools += "]";
  const ChatPrompt prompt = {.messages_json = chat.messages_json,
                             .tools_json = std::move(tools),
                             .arguments_json = chat.template_arguments_json,
                             .add_generation_prompt = chat.add_generation_prompt.value_or(true),
                             .local_seconds = LocalSeconds()};
  const auto render = [&](const ChatTemplate& chat_template) -> absl::StatusOr<RenderedChat> {
    if (escape_special_tokens_) return chat_template.RenderMarked(prompt, *tokenizer_);
    SHEAF_ASSIGN_OR_RETURN(std::string text, chat_template.Render(prompt));
    return RenderedChat{std::move(text)};
  };
  if (!chat.chat_template.empty()) {
    SHEAF_ASSIGN_OR_RETURN(const auto own,
                           ChatTemplate::FromSource("chat_template", chat.chat_template, ""));
    return render(*own);
  }
  if (!template_error_.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "this checkpoint's chat template cannot be used (%s): use completions",
        template_error_.message()));
  }
  if (chat_template_ == nullptr) {
    return absl::InvalidArgumentError("this checkpoint has no chat template: use completions");
  }
  return render(*chat_template_);
}

absl::StatusOr<std::shared_ptr<const OutputGrammar>> CheckpointText::CompileGrammar(
    const GrammarSpec& spec) const {
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<const CompiledGrammar> compiled, grammars_->Compile(spec));
  return MakeOutputGrammar(std::move(compiled));
}

}  // namespace sheaf
