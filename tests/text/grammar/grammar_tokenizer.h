#pragma once
// Tokenizers for grammar tests: the small byte-level BPE of the other tests, with the models' tags
// as added tokens or without, and one with a vocabulary of any size.

#include <memory>
#include <random>
#include <set>
#include <string>

#include "nlohmann/json.hpp"
#include "router/text/tokenizer.h"
#include "tests/text/byte_level_tokenizer.h"

namespace sheaf::testing {

inline void AddToken(nlohmann::json& tokenizer, const std::string& text, bool special) {
  const TokenId id =
      static_cast<TokenId>(tokenizer["model"]["vocab"].size() + tokenizer["added_tokens"].size());
  tokenizer["added_tokens"].push_back({{"id", id},
                                       {"content", text},
                                       {"single_word", false},
                                       {"lstrip", false},
                                       {"rstrip", false},
                                       {"normalized", false},
                                       {"special", special}});
}

inline constexpr const char* kToolTags[] = {"</think>",    "<tool_call>", "</tool_call>",
                                            "<arg_key>",   "</arg_key>",  "<arg_value>",
                                            "</arg_value>"};

inline std::unique_ptr<Tokenizer> MakeTokenizer(bool with_tags) {
  nlohmann::json json = TokenizerJson();
  if (with_tags) {
    for (const char* tag : kToolTags) AddToken(json, tag, /*special=*/false);
  }
  AddToken(json, "<|observation|>", /*special=*/true);
  return *Tokenizer::FromJson(json.dump(), "test");
}

// `vocab_size` tokens: bytes, then words of letters with and without a blank in front, punctuation
// runs and numbers, then the tags. Its merges do not build the words: it is for masks, not for
// texts.
inline std::unique_ptr<Tokenizer> MakeLargeTokenizer(size_t vocab_size, uint64_t seed) {
  nlohmann::json json = TokenizerJson();
  nlohmann::json& vocab = json["model"]["vocab"];
  json["added_tokens"] = nlohmann::json::array();
  json["post_processor"] = nullptr;
  std::mt19937_64 random(seed);
  const auto pick = [&random](size_t n) { return static_cast<size_t>(random() % n); };
  std::set<std::string> words;
  const size_t num_words = vocab_size - vocab.size() - std::size(kToolTags);
  const std::string punctuation = "{}[]\",:.;()<>=/_-\n\t ";
  while (words.size() < num_words) {
    std::string word;
    const size_t kind = pick(20);
    const size_t length = 2 + pick(9);
    if (kind == 0) {
      for (size_t i = 0; i < 1 + pick(4); ++i) word += punctuation[pick(punctuation.size())];
    } else if (kind == 1) {
      for (size_t i = 0; i < 1 + pick(3); ++i) word += static_cast<char>('0' + pick(10));
    } else if (kind < 5) {
      // Chinese characters, some cut within a character.
      for (size_t i = 0; i < 3 * (1 + pick(3)) - (kind == 4); ++i) {
        word += i % 3 == 0 ? '\xE4' : static_cast<char>(0x80 + pick(64));
      }
    } else {
      if (pick(2)) word += ' ';
      for (size_t i = 0; i < length; ++i) word += static_cast<char>('a' + pick(26));
    }
    const std::string symbols = Symbols(word);
    if (!vocab.contains(symbols)) words.insert(symbols);
  }
  size_t id = vocab.size();
  for (const std::string& word : words) vocab[word] = id++;
  for (const char* tag : kToolTags) AddToken(json, tag, /*special=*/false);
  return *Tokenizer::FromJson(json.dump(), "large test");
}

}  // namespace sheaf::testing
