#pragma once
// TextCodec: what the API needs of tokenizer, chat template and grammars, so that its tests need
// none of them.
//
// Threads    const methods from any number of threads.
// Errors     Encode, EncodeChat, RenderChat, CompileGrammar: kInvalidArgument when the client's
//            text, messages or grammar are wrong. Encode, EncodeChat: kCancelled by their bounds.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "router/api/request/parsed_request.h"
#include "router/text/encode_bounds.h"
#include "router/text/grammar/grammar_spec.h"
#include "router/text/guide/output_grammar.h"
#include "router/text/output/output_format.h"
#include "router/text/rendered_chat.h"

namespace sheaf {

class TextCodec {
 public:
  virtual ~TextCodec() = default;

  virtual absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                                      bool add_special_tokens,
                                                      const EncodeBounds& bounds) const = 0;
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                              bool add_special_tokens) const {
    return Encode(text, add_special_tokens, {});
  }
  // As Encode(chat.text), but no added token is seen in the parts that are plain.
  virtual absl::StatusOr<std::vector<TokenId>> EncodeChat(const RenderedChat& chat,
                                                          bool add_special_tokens,
                                                          const EncodeBounds& bounds) const = 0;
  // The most bytes of a text that one token can stand for; nothing: not bounded.
  virtual std::optional<size_t> max_token_bytes() const = 0;
  // What prompts begin with; a prompt that has it twice was given it by both its writer and
  // Encode. Empty: nothing.
  virtual std::span<const TokenId> prompt_prefix() const = 0;
  virtual absl::StatusOr<std::string> Decode(std::span<const TokenId> ids,
                                             bool skip_special_tokens) const = 0;
  // The text of a chat; encode it without special tokens, it has them.
  virtual bool has_chat_template() const = 0;
  virtual absl::StatusOr<RenderedChat> RenderChat(const ChatInput& chat) const = 0;
  // What a token adds to the text (often not UTF-8 by itself), and how the vocabulary writes it.
  virtual std::string TokenBytes(TokenId id) const = 0;
  virtual std::string TokenText(TokenId id) const = 0;
  // Left out of text when special tokens are skipped.
  virtual bool IsSpecial(TokenId id) const = 0;
  // How the model writes thoughts and calls.
  virtual const OutputFormat& output_format() const = 0;
  virtual absl::StatusOr<std::shared_ptr<const OutputGrammar>> CompileGrammar(
      const GrammarSpec& spec) const = 0;
};

}  // namespace sheaf
