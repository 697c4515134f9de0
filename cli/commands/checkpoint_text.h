#pragma once
// CheckpointText: the API's TextCodec on a checkpoint's own tokenizer and chat template.
//
// A checkpoint without a chat template serves completions only; so does one whose template cannot
// be read or compiled, with a remark, and its chats are answered with the reason.
// Threads: constant after Load.
// Errors: those of Tokenizer::Load and GrammarCompiler::Create; kInvalidArgument when the template
// writes role tokens that the tokenizer cuts into pieces.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "router/api/request/prompt/text_codec.h"
#include "router/text/chat_template.h"
#include "router/text/grammar/grammar_compiler.h"
#include "router/text/stop_ids.h"
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
  // `escape_special_tokens`: added tokens that a chat's messages, tools or arguments spell are
  // encoded as plain text.
  static absl::StatusOr<std::unique_ptr<CheckpointText>> Load(const std::string& checkpoint_dir,
                                                              size_t vocab_size,
                                                              const ParserChoice& parsers,
                                                              bool escape_special_tokens = false);

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const ChatTemplate* chat_template() const { return chat_template_.get(); }  // null: none
  // What an operator should know of tokenizer, template and parsers; all of it is served.
  const std::vector<std::string>& remarks() const { return remarks_; }
  // The tokens that end an answer: those of the configs and what the texts add.
  StopIdPlan StopIds(std::span<const TokenId> configured) const {
    return PlanStopIds(configured, eos_token_, turn_ends_, *tokenizer_, vocab_size_);
  }

  using TextCodec::Encode;
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, bool add_special_tokens,
                                              const EncodeBounds& bounds) const override {
    return tokenizer_->Encode(text, add_special_tokens, bounds);
  }
  absl::StatusOr<std::string> Decode(std::span<const TokenId> ids,
                                     bool skip_special_tokens) const override {
    return tokenizer_->Decode(ids, skip_special_tokens);
  }
  absl::StatusOr<std::vector<TokenId>> EncodeChat(const RenderedChat& chat,
                                                  bool add_special_tokens,
                                                  const EncodeBounds& bounds) const override {
    return tokenizer_->EncodeChat(chat, add_special_tokens, bounds);
  }
  std::optional<size_t> max_token_bytes() const override { return tokenizer_->MaxTokenBytes(); }
  std::span<const TokenId> prompt_prefix() const override { return prompt_prefix_; }
  bool has_chat_template() const override {
    return chat_template_ != nullptr || !template_error_.ok();
  }
  absl::StatusOr<RenderedChat> RenderChat(const ChatInput& chat) const override;
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

  absl::Status ProbeChatTemplate();

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;  // null: none in the checkpoint, or a broken one
  absl::Status template_error_;                  // why it is broken
  bool escape_special_tokens_ = false;
  int vocab_size_ = 0;
  std::string eos_token_;                // tokenizer_config.json's; empty: none
  std::vector<TurnEnd> turn_ends_;       // of the chat template
  std::vector<TokenId> prompt_prefix_;
  std::vector<std::string> remarks_;
  OutputFormat output_format_;
  std::unique_ptr<GrammarCompiler> grammars_;
};

}  // namespace sheaf
