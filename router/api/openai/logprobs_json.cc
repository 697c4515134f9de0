#include "router/api/openai/logprobs_json.h"

#include <algorithm>
#include <unordered_set>

namespace sheaf {
namespace {

double Finite(float logprob) { return logprob > -9999.0f ? static_cast<double>(logprob) : -9999.0; }

// Bytes that are not UTF-8 become U+FFFD, so that two halves of characters are seen to have the
// same name.
std::string Readable(const std::string& bytes) {
  return Json::parse(JsonText(bytes)).get<std::string>();
}

std::string TokenName(const LogprobStyle& style, TokenId token) {
  if (style.tokens_as_ids) return "token_id:" + std::to_string(token);
  std::string bytes = style.codec.TokenBytes(token);
  const bool ascii =
      std::all_of(bytes.begin(), bytes.end(), [](char c) { return (c & 0x80) == 0; });
  return ascii ? bytes : Readable(bytes);
}

int64_t Characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

Json ChatEntry(const LogprobStyle& style, const TokenLogprob& logprob) {
  Json bytes = Json::array();
  for (const char c : style.codec.TokenBytes(logprob.token))
    bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", TokenName(style, logprob.token)},
          {"logprob", Finite(logprob.logprob)},
          {"bytes", bytes}};
}

}  // namespace

void CompletionLogprobs::Add(TokenId token, const std::optional<TokenLogprobs>& logprobs) {
  std::string piece;
  const bool is_shown = !(style_.skip_special_tokens && style_.codec.IsSpecial(token));
  if (is_shown) characters_.Push(style_.codec.TokenBytes(token), piece);
  const std::string name = style_.tokens_as_ids || !is_shown ? TokenName(style_, token) : piece;
  tokens_.push_back(name);
  offsets_.push_back(text_offset_);
  text_offset_ += Characters(piece);
  if (!logprobs) {
    token_logprobs_.push_back(nullptr);
    top_logprobs_.push_back(nullptr);
    return;
  }
  token_logprobs_.push_back(Finite(logprobs->chosen.logprob));
  // Not one key at a time into an ordered object: with the whole vocabulary that costs the square
  // of its size.
  Json::object_t top;
  top.reserve(logprobs->top.size() + 1);
  std::unordered_set<std::string> names;  // of two tokens with one text the more probable one stays
  const auto add = [&](TokenId id, float logprob) {
    std::string text = id == token && !name.empty() ? name : TokenName(style_, id);
    if (names.insert(text).second) top.Container::emplace_back(std::move(text), Finite(logprob));
  };
  for (const TokenLogprob& entry : logprobs->top) add(entry.token, entry.logprob);
  add(token, logprobs->chosen.logprob);
  top_logprobs_.push_back(std::move(top));
}

Json CompletionLogprobs::Take() {
  Json result = {{"text_offset", std::move(offsets_)},
                 {"token_logprobs", std::move(token_logprobs_)},
                 {"tokens", std::move(tokens_)},
                 {"top_logprobs", std::move(top_logprobs_)}};
  offsets_ = token_logprobs_ = tokens_ = top_logprobs_ = Json::array();
  return result;
}

Json CompletionLogprobs::TakeLast() {
  std::string rest;
  characters_.Finish(rest);
  if (!rest.empty() && !tokens_.empty() && !style_.tokens_as_ids) {
    tokens_.back() = tokens_.back().get<std::string>() + rest;
  }
  return Take();
}

Json ChatLogprob(const LogprobStyle& style, const TokenLogprobs& logprobs) {
  Json entry = ChatEntry(style, logprobs.chosen);
  Json& top = entry["top_logprobs"] = Json::array();
  for (const TokenLogprob& other : logprobs.top) top.push_back(ChatEntry(style, other));
  return entry;
}

Json PromptLogprobsJson(const TextCodec& codec,
                        const std::vector<std::optional<TokenLogprobs>>& logprobs) {
  const LogprobStyle style{codec, /*tokens_as_ids=*/false, /*skip_special_tokens=*/false};
  const auto value = [&](const TokenLogprob& entry) {
    return Json{{"logprob", Finite(entry.logprob)},
                {"rank", entry.rank},
                {"decoded_token", TokenName(style, entry.token)}};
  };
  Json result = Json::array();
  for (const auto& position : logprobs) {
    if (!position) {
      result.push_back(nullptr);
      continue;
    }
    Json::object_t tokens;
    tokens.reserve(position->top.size() + 1);
    bool chosen_is_top = false;
    for (const TokenLogprob& entry : position->top) {
      chosen_is_top |= entry.token == position->chosen.token;
      tokens.Container::emplace_back(std::to_string(entry.token), value(entry));
    }
    if (!chosen_is_top) {
      tokens.Container::emplace_back(std::to_string(position->chosen.token),
                                     value(position->chosen));
    }
    result.push_back(std::move(tokens));
  }
  return result;
}

}  // namespace sheaf
