#pragma once
// CheckpointText: the API's TextCodec on a checkpoint's own tokenizer and chat template.
//
// A checkpoint without a chat template serves completions only. Threads: constant after Load.
// Errors: those of Tokenizer::Load, ChatTemplate::Load and GrammarCompiler::Create; kInvalidArgument
// for a token that the model's output has no row for.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "router/api/request/text_codec.h"
#include "router/text/chat_template.h"
#include "router/text/grammar/grammar_compiler.h"
#include "router/text/tokenizer.h"

namespace sheaf {

// "auto" (as the chat template writes them), "glm45", "glm47" or "none".
struct ParserChoice {
  std::string tool_calls = "auto";
  std::string reasoning = "auto";
};

// Null: the checkpoint has none.
absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadChatTemplate(const std::string& checkpoint_dir);

class CheckpointText final : public TextCodec {
 public:
  // `vocab_size`: the rows of the model's output, which grammars' masks cover.
  static absl::StatusOr<std::unique_ptr<CheckpointText>> Load(const std::string& checkpoint_dir,
                                                              size_t vocab_size,
                                                              const ParserChoice& parsers);

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const ChatTemplate* chat_template() const { return chat_template_.get(); }  // null: none
  // What an operator should know of tokenizer, template and parsers; all of it is served.
  const std::vector<std::string>& remarks() const { return remarks_; }

  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                              bool add_special_tokens) const override {
    return tokenizer_->Encode(text, add_special_tokens);
  }
  absl::StatusOr<std::string> Decode(std::span<const TokenId> ids,
                                     bool skip_special_tokens) const override {
    return tokenizer_->Decode(ids, skip_special_tokens);
  }
  bool has_chat_template() const override { return chat_template_ != nullptr; }
  absl::StatusOr<std::string> RenderChat(const ChatInput& chat) const override;
  std::string TokenBytes(TokenId id) const override {
    return std::string(tokenizer_->TokenBytes(id));
  }
  std::string TokenText(TokenId id) const override {
    return std::string(tokenizer_->TokenText(id));
  }
  bool IsSpecial(TokenId id) const override { return tokenizer_->IsSpecial(id); }
  const OutputFormat& output_format() const override { return output_format_; }
  absl::StatusOr<std::shared_ptr<const OutputGrammar>> CompileGrammar(
      const GrammarSpec& spec) const override;

 private:
  CheckpointText() = default;

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;  // null: none in the checkpoint
  OutputFormat output_format_;
  std::vector<std::string> remarks_;
  std::unique_ptr<GrammarCompiler> grammars_;
};

}  // namespace sheaf
