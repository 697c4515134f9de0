#include "cli/checkpoint_text.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "router/text/guide/matcher_grammar.h"

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

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadChatTemplate(const std::string& checkpoint_dir) {
  auto chat_template = ChatTemplate::Load(checkpoint_dir);
  if (absl::IsNotFound(chat_template.status())) return nullptr;
  return chat_template;
}

absl::StatusOr<std::unique_ptr<CheckpointText>> CheckpointText::Load(
    const std::string& checkpoint_dir, size_t vocab_size, const ParserChoice& parsers) {
  std::unique_ptr<CheckpointText> text(new CheckpointText);
  SHEAF_ASSIGN_OR_RETURN(text->tokenizer_, Tokenizer::Load(checkpoint_dir));
  if (text->tokenizer_->VocabSize() > vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: tokenizer.json has token id %d, config.json's vocab_size is %d",
                        checkpoint_dir, text->tokenizer_->VocabSize() - 1, vocab_size));
  }
  SHEAF_ASSIGN_OR_RETURN(text->chat_template_, LoadChatTemplate(checkpoint_dir));
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

absl::StatusOr<std::string> CheckpointText::RenderChat(const ChatInput& chat) const {
  std::string tools;
  for (const ToolDefinition& tool : chat.tools) {
    tools += (tools.empty() ? "[" : ",") + tool.definition_json;
  }
  if (!tools.empty()) tools += "]";
  const ChatPrompt prompt = {.messages_json = chat.messages_json,
                             .tools_json = std::move(tools),
                             .arguments_json = chat.template_arguments_json,
                             .add_generation_prompt = chat.add_generation_prompt.value_or(true)};
  if (!chat.chat_template.empty()) {
    SHEAF_ASSIGN_OR_RETURN(const auto own,
                           ChatTemplate::FromSource("chat_template", chat.chat_template, ""));
    return own->Render(prompt);
  }
  if (chat_template_ == nullptr) {
    return absl::InvalidArgumentError("this checkpoint has no chat template: use completions");
  }
  return chat_template_->Render(prompt);
}

absl::StatusOr<std::shared_ptr<const OutputGrammar>> CheckpointText::CompileGrammar(
    const GrammarSpec& spec) const {
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<const CompiledGrammar> compiled, grammars_->Compile(spec));
  return MakeOutputGrammar(std::move(compiled));
}

}  // namespace sheaf
