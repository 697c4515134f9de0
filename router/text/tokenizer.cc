#include "router/text/tokenizer.h"

#include <cstdint>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "router/text/checkpoint_file.h"
#include "router/text/rust_bridge.h"

namespace sheaf {
namespace {

// Ids are not negative in the ABI; a negative one becomes an id that no vocabulary has.
uint32_t ToAbi(TokenId id) { return static_cast<uint32_t>(id); }

bool StopWanted(const void* bounds) { return static_cast<const EncodeBounds*>(bounds)->stop(); }

SheafEncodeBounds ToAbi(const EncodeBounds& bounds) {
  return {.max_tokens = bounds.max_tokens,
          .piece_bytes = bounds.piece_bytes,
          .stop = bounds.stop ? StopWanted : nullptr,
          .context = &bounds};
}

absl::StatusOr<std::vector<TokenId>> TakeIds(SheafIds ids, const EncodeBounds& bounds) {
  std::vector<TokenId> result(ids.data, ids.data + ids.size);
  sheaf_text_free_ids(ids);
  if (bounds.stop && bounds.stop()) return absl::CancelledError("nobody waits for the tokens");
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& checkpoint_dir) {
  const std::string path = checkpoint_dir + "/tokenizer.json";
  TokenizerFiles files;
  SHEAF_ASSIGN_OR_RETURN(files.tokenizer_json, ReadCheckpointFile(path));
  SHEAF_ASSIGN_OR_RETURN(files.config_json,
                         ReadOptionalCheckpointFile(checkpoint_dir + "/tokenizer_config.json"));
  SHEAF_ASSIGN_OR_RETURN(files.special_tokens_map_json,
                         ReadOptionalCheckpointFile(checkpoint_dir + "/special_tokens_map.json"));
  SHEAF_ASSIGN_OR_RETURN(files.added_tokens_json,
                         ReadOptionalCheckpointFile(checkpoint_dir + "/added_tokens.json"));
  return FromFiles(files, path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json,
                                                               std::string_view name) {
  return FromFiles({.tokenizer_json = std::string(tokenizer_json)}, name);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromFiles(const TokenizerFiles& files,
                                                                std::string_view name) {
  const SheafTokenizerFiles abi_files = {.tokenizer = ToSheafText(files.tokenizer_json),
                                         .config = ToSheafText(files.config_json),
                                         .special_tokens_map =
                                             ToSheafText(files.special_tokens_map_json),
                                         .added_tokens = ToSheafText(files.added_tokens_json)};
  SheafTokenizer* handle = nullptr;
  SheafBuffer error{};
  const SheafTextCode code = sheaf_tokenizer_new(abi_files, &handle, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, name);
  return std::unique_ptr<Tokenizer>(new Tokenizer(handle));
}

Tokenizer::Tokenizer(SheafTokenizer* handle)
    : handle_(handle), vocab_size_(sheaf_tokenizer_vocab_size(handle)) {}

Tokenizer::~Tokenizer() { sheaf_tokenizer_free(handle_); }

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(std::string_view text,
                                                       bool add_special_tokens,
                                                       const EncodeBounds& bounds) const {
  SheafIds ids{};
  SheafBuffer error{};
  const SheafTextCode code = sheaf_tokenizer_encode(
      handle_, ToSheafText(text), add_special_tokens, ToAbi(bounds), &ids, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "cannot tokenize");
  return TakeIds(ids, bounds);
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::EncodeChat(const RenderedChat& chat,
                                                           bool add_special_tokens,
                                                           const EncodeBounds& bounds) const {
  std::vector<SheafRange> plain;
  for (const TextRange& range : chat.plain) plain.push_back({range.begin, range.end});
  SheafIds ids{};
  SheafBuffer error{};
  const SheafTextCode code =
      sheaf_tokenizer_encode_with_plain(handle_, ToSheafText(chat.text), plain.data(), plain.size(),
                                        add_special_tokens, ToAbi(bounds), &ids, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "cannot tokenize");
  return TakeIds(ids, bounds);
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const TokenId> ids,
                                              bool skip_special_tokens) const {
  std::vector<uint32_t> abi_ids(ids.begin(), ids.end());
  SheafBuffer text{};
  SheafBuffer error{};
  const SheafTextCode code = sheaf_tokenizer_decode(handle_, abi_ids.data(), abi_ids.size(),
                                                    skip_special_tokens, &text, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "cannot detokenize");
  return TakeString(text);
}

std::string_view Tokenizer::TokenBytes(TokenId id) const {
  return ToStringView(sheaf_tokenizer_token(handle_, ToAbi(id)).bytes);
}

std::string_view Tokenizer::TokenText(TokenId id) const {
  return ToStringView(sheaf_tokenizer_token(handle_, ToAbi(id)).text);
}

std::optional<TokenId> Tokenizer::FindToken(std::string_view token_text) const {
  const int64_t id = sheaf_tokenizer_token_id(handle_, ToSheafText(token_text));
  if (id < 0) return std::nullopt;
  return static_cast<TokenId>(id);
}

std::optional<size_t> Tokenizer::MaxTokenBytes() const {
  const size_t bytes = sheaf_tokenizer_max_token_bytes(handle_);
  return bytes == 0 ? std::nullopt : std::optional(bytes);
}

bool Tokenizer::HasToken(TokenId id) const {
  return sheaf_tokenizer_token(handle_, ToAbi(id)).exists;
}

bool Tokenizer::IsSpecial(TokenId id) const {
  return sheaf_tokenizer_token(handle_, ToAbi(id)).special;
}

std::vector<std::string> Tokenizer::Remarks() const {
  const std::string lines = TakeString(sheaf_tokenizer_remarks(handle_));
  return absl::StrSplit(lines, '\n', absl::SkipEmpty());
}

std::vector<AddedToken> Tokenizer::AddedTokens() const {
  std::vector<AddedToken> added;
  for (size_t id = 0; id < vocab_size_; ++id) {
    const SheafToken token = sheaf_tokenizer_token(handle_, static_cast<uint32_t>(id));
    if (token.added) {
      added.push_back({static_cast<TokenId>(id), ToStringView(token.text), token.special});
    }
  }
  return added;
}

}  // namespace sheaf
