#pragma once
// Tokenizer is the byte-level BPE of a checkpoint (tokenizer.json, with the added tokens that only
// tokenizer_config.json, special_tokens_map.json or added_tokens.json has merged as transformers'
// tokenizer classes merge them): text to token ids and back.
//
// Text       UTF-8. Special tokens written in the text ("<|user|>", "/nothink") become those
//            tokens, as the checkpoint's own tooling does.
// Decoding   A text is the bytes of its tokens one after another, with what is not UTF-8 replaced
//            by U+FFFD; no token depends on its neighbours. An added token is plain text, whatever
//            its characters mean in the byte alphabet. An id without a token stands for nothing.
// Ownership  Views from TokenText and TokenBytes live as long as the tokenizer.
// Threads    Immutable after loading: every method from any number of threads.
// Errors     kNotFound no tokenizer.json; kInvalidArgument the file is broken or not byte-level, or
//            an added token contradicts tokenizer.json, or a text to encode is not UTF-8. Messages
//            name the file.
//            kCancelled: EncodeBounds::stop.
// Cost       Loading 150,000 tokens: about 0.4 s. Encoding: 1 to 4 MB/s, memory: encode_bounds.h.
//            Everything that takes an id: O(1).

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "router/text/encode_bounds.h"
#include "router/text/rendered_chat.h"

struct SheafTokenizer;

namespace sheaf {

// A token that is matched in the text before the model's own vocabulary is tried.
struct AddedToken {
  TokenId id = 0;
  std::string_view text;
  bool special = false;  // left out of text when special tokens are skipped
};

// Contents of a checkpoint's files; empty: no such file.
struct TokenizerFiles {
  std::string tokenizer_json;
  std::string config_json = {};              // tokenizer_config.json
  std::string special_tokens_map_json = {};  // special_tokens_map.json
  std::string added_tokens_json = {};        // added_tokens.json
};

class Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& checkpoint_dir);
  // `name` stands for tokenizer.json in messages.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromFiles(const TokenizerFiles& files,
                                                              std::string_view name);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view tokenizer_json,
                                                             std::string_view name);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // `add_special_tokens` applies the checkpoint's own prefix (GLM: [gMASK]<sop>). Rendered chat
  // templates contain it already: encode those without.
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, bool add_special_tokens,
                                              const EncodeBounds& bounds = {}) const;
  // As Encode(chat.text), but no added token is seen in the parts that are plain.
  absl::StatusOr<std::vector<TokenId>> EncodeChat(const RenderedChat& chat,
                                                  bool add_special_tokens,
                                                  const EncodeBounds& bounds = {}) const;
  absl::StatusOr<std::string> Decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  // The bytes that a token adds to the output; often not UTF-8 by themselves. Empty for an id
  // without token.
  std::string_view TokenBytes(TokenId id) const;
  // The token as the vocabulary writes it: " hello" is "\u0120hello". Empty for an id without
  // token.
  std::string_view TokenText(TokenId id) const;
  std::optional<TokenId> FindToken(std::string_view token_text) const;

  // The most bytes of a text that one token can stand for; nothing where that is not bounded (a
  // normalizer, added tokens that take white space, a vocabulary without all bytes).
  std::optional<size_t> MaxTokenBytes() const;
  // Largest id + 1. The model's vocabulary may be larger (padding rows of lm_head) and there may be
  // holes.
  size_t VocabSize() const { return vocab_size_; }
  bool HasToken(TokenId id) const;
  bool IsSpecial(TokenId id) const;
  // In order of id.
  std::vector<AddedToken> AddedTokens() const;
  // What an operator should know of the files: settings that were turned off, tokens merged.
  std::vector<std::string> Remarks() const;

  // For what else of the Rust library works on the vocabulary.
  const SheafTokenizer* handle() const { return handle_; }

 private:
  explicit Tokenizer(SheafTokenizer* handle);

  SheafTokenizer* const handle_;  // owned
  const size_t vocab_size_;
};

}  // namespace sheaf
