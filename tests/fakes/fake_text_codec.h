#pragma once
// A TextCodec without a vocabulary file: token ids 0..255 are bytes, 256 ends a text, 257 is put
// before texts.

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "router/api/request/prompt/text_codec.h"

namespace sheaf {

class FakeTextCodec final : public TextCodec {
 public:
  static constexpr TokenId kEnd = 256;
  static constexpr TokenId kPrefix = 257;
  static constexpr int kVocabSize = 260;

  explicit FakeTextCodec(bool with_chat_template = true)
      : with_chat_template_(with_chat_template) {}

  using TextCodec::Encode;
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, bool add_special_tokens,
                                              const EncodeBounds& bounds) const override {
    ++encoded;
    if (on_encode) on_encode(text);
    std::vector<TokenId> ids;
    if (add_special_tokens) ids.push_back(kPrefix);
    for (const char c : text) {
      if (bounds.stop && bounds.stop()) return absl::CancelledError("nobody waits for the tokens");
      if (text.size() > bounds.piece_bytes && ids.size() > bounds.max_tokens) break;
      ids.push_back(static_cast<unsigned char>(c));
    }
    return ids;
  }
  absl::StatusOr<std::string> Decode(std::span<const TokenId> ids,
                                     bool skip_special_tokens) const override {
    std::string text;
    for (const TokenId id : ids) {
      if (id < 256 || !skip_special_tokens) text += TokenBytes(id);
    }
    return text;
  }
  absl::StatusOr<std::vector<TokenId>> EncodeChat(const RenderedChat& chat,
                                                  bool add_special_tokens,
                                                  const EncodeBounds& bounds) const override {
    return Encode(chat.text, add_special_tokens, bounds);
  }
  std::optional<size_t> max_token_bytes() const override { return longest_token; }
  std::span<const TokenId> prompt_prefix() const override { return prefix_; }
  bool has_chat_template() const override { return with_chat_template_; }
  // "user: hi\nassistant: "
  absl::StatusOr<RenderedChat> RenderChat(const ChatInput& chat) const override {
    std::string text;
    for (const auto& message : nlohmann::json::parse(chat.messages_json)) {
      if (message["role"] == "robot")
        return absl::InvalidArgumentError("messages[0].role: robot is unknown");
      text += message["role"].get<std::string>() + ": " + message.value("content", "") + "\n";
    }
    if (!chat.template_arguments_json.empty()) text += chat.template_arguments_json + "\n";
    if (chat.add_generation_prompt.value_or(true)) text += "assistant: ";
    return RenderedChat{std::move(text)};
  }
  std::string TokenBytes(TokenId id) const override {
    if (id == kEnd) return "<end>";
    if (id == kPrefix) return "<prefix>";
    return id < 256 ? std::string(1, static_cast<char>(id)) : std::string();
  }
  std::string TokenText(TokenId id) const override { return TokenBytes(id); }
  bool IsSpecial(TokenId id) const override { return id >= kEnd; }
  // Tags are plain text: no token of this vocabulary is one.
  const OutputFormat& output_format() const override { return format; }
  absl::StatusOr<std::shared_ptr<const OutputGrammar>> CompileGrammar(
      const GrammarSpec& spec) const override {
    if (on_compile) on_compile(spec);
    if (spec.text == "wrong") return absl::InvalidArgumentError("$.type: there is no such type");
    compiled.push_back(spec);
    return std::shared_ptr<const OutputGrammar>(std::make_shared<AnyText>());
  }

  OutputFormat format;
  std::optional<size_t> longest_token;                 // in bytes
  mutable std::atomic<int> encoded = 0;                // texts
  std::function<void(std::string_view)> on_encode;     // a test's own, before it is tokenized
  std::function<void(const GrammarSpec&)> on_compile;  // a test's own, before it is compiled
  mutable std::vector<GrammarSpec> compiled;           // in order

 private:
  // The fake engine asks no grammar for a state.
  class AnyText final : public OutputGrammar {
    absl::StatusOr<std::unique_ptr<OutputGrammarState>> Start() const override {
      return absl::UnimplementedError("AnyText has no state");
    }
  };

  const std::vector<TokenId> prefix_ = {kPrefix};
  const bool with_chat_template_;
};

}  // namespace sheaf
