#include "router/api/openai/logprobs_json.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "router/api/openai/json_append.h"
#include "router/api/request/json/json_fields.h"

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

void Separate(std::string& list) {
  if (!list.empty()) list += ',';
}

// Without its closing brace.
void AppendChatEntry(const LogprobStyle& style, const TokenLogprob& logprob, std::string& out) {
  out += "{\"token\":";
  AppendQuoted(TokenName(style, logprob.token), out);
  out += ",\"logprob\":";
  AppendJsonNumber(Finite(logprob.logprob), out);
  out += ",\"bytes\":[";
  bool first = true;
  for (const char c : style.codec.TokenBytes(logprob.token)) {
    if (!std::exchange(first, false)) out += ',';
    AppendJsonInteger(static_cast<unsigned char>(c), out);
  }
  out += ']';
}

}  // namespace

void CompletionLogprobs::NameLast() {
  if (!last_name_.has_value()) return;
  Separate(tokens_);
  AppendQuoted(*last_name_, tokens_);
  last_name_.reset();
}

void CompletionLogprobs::Add(TokenId token, const std::optional<TokenLogprobs>& logprobs) {
  std::string piece;
  const bool is_shown = !(style_.skip_special_tokens && style_.codec.IsSpecial(token));
  if (is_shown) characters_.Push(style_.codec.TokenBytes(token), piece);
  const std::string name = style_.tokens_as_ids || !is_shown ? TokenName(style_, token) : piece;
  NameLast();
  last_name_ = name;
  Separate(offsets_);
  AppendJsonInteger(text_offset_, offsets_);
  text_offset_ += Characters(piece);
  Separate(token_logprobs_);
  Separate(top_logprobs_);
  if (!logprobs) {
    token_logprobs_ += "null";
    top_logprobs_ += "null";
    return;
  }
  AppendJsonNumber(Finite(logprobs->chosen.logprob), token_logprobs_);
  std::unordered_set<std::string> names;  // of two tokens with one text the more probable one stays
  top_logprobs_ += '{';
  const auto add = [&](TokenId id, float logprob) {
    std::string text = id == token && !name.empty() ? name : TokenName(style_, id);
    const auto [added, is_new] = names.insert(std::move(text));
    if (!is_new) return;
    if (names.size() > 1) top_logprobs_ += ',';
    AppendQuoted(*added, top_logprobs_);
    top_logprobs_ += ':';
    AppendJsonNumber(Finite(logprob), top_logprobs_);
  };
  for (const TokenLogprob& entry : logprobs->top) add(entry.token, entry.logprob);
  add(token, logprobs->chosen.logprob);
  top_logprobs_ += '}';
}

std::string CompletionLogprobs::Take() {
  NameLast();
  std::string result;
  result.reserve(offsets_.size() + token_logprobs_.size() + tokens_.size() + top_logprobs_.size() +
                 80);
  result += "{\"text_offset\":[";
  result += std::exchange(offsets_, {});
  result += "],\"token_logprobs\":[";
  result += std::exchange(token_logprobs_, {});
  result += "],\"tokens\":[";
  result += std::exchange(tokens_, {});
  result += "],\"top_logprobs\":[";
  result += std::exchange(top_logprobs_, {});
  result += "]}";
  return result;
}

std::string CompletionLogprobs::TakeLast() {
  std::string rest;
  characters_.Finish(rest);
  if (last_name_.has_value() && !style_.tokens_as_ids) *last_name_ += rest;
  return Take();
}

void AppendChatLogprob(const LogprobStyle& style, const TokenLogprobs& logprobs,
                       std::string& out) {
  AppendChatEntry(style, logprobs.chosen, out);
  out += ",\"top_logprobs\":[";
  for (size_t i = 0; i < logprobs.top.size(); ++i) {
    if (i > 0) out += ',';
    AppendChatEntry(style, logprobs.top[i], out);
    out += '}';
  }
  out += "]}";
}

void AppendPromptLogprobs(const TextCodec& codec,
                          const std::vector<std::optional<TokenLogprobs>>& logprobs,
                          std::string& out) {
  const LogprobStyle style{codec, /*tokens_as_ids=*/false, /*skip_special_tokens=*/false};
  const auto append = [&](const TokenLogprob& entry) {
    out += '"';
    AppendJsonInteger(entry.token, out);
    out += "\":{\"logprob\":";
    AppendJsonNumber(Finite(entry.logprob), out);
    out += ",\"rank\":";
    AppendJsonInteger(entry.rank, out);
    out += ",\"decoded_token\":";
    AppendQuoted(TokenName(style, entry.token), out);
    out += '}';
  };
  for (const auto& position : logprobs) {
    if (!position) {
      out += "null,";
      continue;
    }
    out += '{';
    bool chosen_is_top = false;
    for (size_t i = 0; i < position->top.size(); ++i) {
      if (i > 0) out += ',';
      chosen_is_top |= position->top[i].token == position->chosen.token;
      append(position->top[i]);
    }
    if (!chosen_is_top) {
      if (!position->top.empty()) out += ',';
      append(position->chosen);
    }
    out += "},";
  }
}

}  // namespace sheaf
