#pragma once
// A small byte-level BPE of our own for tests: 256 byte tokens, merges that end within characters,
// GLM's pre-tokenizer pattern, and added tokens of every kind that matters.

#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "nlohmann/json.hpp"

namespace sheaf::testing {

// The character that stands for a byte in a byte-level vocabulary, in UTF-8.
inline std::string ByteSymbol(int byte) {
  const auto printable = [](int b) {
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
  };
  int code = byte;
  if (!printable(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += !printable(b);
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

inline std::string Symbols(std::string_view bytes) {
  std::string symbols;
  for (const char c : bytes) symbols += ByteSymbol(static_cast<unsigned char>(c));
  return symbols;
}

// Ids of the added tokens, which follow the BPE part.
inline constexpr TokenId kEndOfText = 272;
inline constexpr TokenId kGmask = 273;
inline constexpr TokenId kSop = 274;
inline constexpr TokenId kUser = 275;
inline constexpr TokenId kThink = 276;    // not special: survives skipping
inline constexpr TokenId kNoThink = 277;  // special although users type it
inline constexpr TokenId kVocabSize = 278;

inline nlohmann::json TokenizerJson() {
  // (left, right) in order of rank; each makes a new token. The last one never happens in "1234":
  // the pattern splits numbers after three digits.
  const std::vector<std::pair<std::string, std::string>> merges = {{"h", "e"},
                                                                   {"l", "l"},
                                                                   {"he", "ll"},
                                                                   {"hell", "o"},
                                                                   {" ", "w"},
                                                                   {"o", "r"},
                                                                   {" w", "or"},
                                                                   {"\xC3", "\xA9"},
                                                                   {"\xE4", "\xBD"},
                                                                   {"\xF0", "\x9F"},
                                                                   {"\n", "\n"},
                                                                   {"\xA0", "\xE5"},
                                                                   {"\xE4\xBD", "\xA0"},
                                                                   {"\xF0\x9F", "\x98\x80"},
                                                                   {"3", "4"}};
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[ByteSymbol(byte)] = byte;
  nlohmann::json merge_list = nlohmann::json::array();
  int next_id = 256;
  for (const auto& [left, right] : merges) {
    // The last merge needs its right half as a token.
    if (!vocab.contains(Symbols(right))) vocab[Symbols(right)] = next_id++;
    merge_list.push_back({Symbols(left), Symbols(right)});
    vocab[Symbols(left + right)] = next_id++;
  }
  nlohmann::json added = nlohmann::json::array();
  const auto add = [&added](TokenId id, const char* content, bool special) {
    added.push_back({{"id", id},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
  };
  add(kEndOfText, "<|endoftext|>", true);
  add(kGmask, "[gMASK]", true);
  add(kSop, "<sop>", true);
  add(kUser, "<|user|>", true);
  add(kThink, "<think>", false);
  add(kNoThink, "/nothink", true);
  const char* pattern =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", false},
                                     {"use_regex", false}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"},
               {"pattern", {{"Regex", pattern}}},
               {"behavior", "Isolated"},
               {"invert", false}},
              byte_level}}}},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", "[gMASK]"}, {"type_id", 0}}}},
              {{"SpecialToken", {{"id", "<sop>"}, {"type_id", 0}}}},
              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
            {"pair",
             {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
              {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}}},
            {"special_tokens",
             {{"[gMASK]", {{"id", "[gMASK]"}, {"ids", {kGmask}}, {"tokens", {"[gMASK]"}}}},
              {"<sop>", {{"id", "<sop>"}, {"ids", {kSop}}, {"tokens", {"<sop>"}}}}}}}},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", merge_list}}}};
}

}  // namespace sheaf::testing
