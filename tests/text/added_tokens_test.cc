// Added tokens of the files beside tokenizer.json, as transformers 5.24 merges them (its ids for
// the same files stand here), and added tokens as plain text in both directions.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/text/incremental_detokenizer.h"
#include "router/text/tokenizer.h"
#include "tests/text/byte_level_tokenizer.h"

namespace sheaf {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::kEndOfText;
using testing::kThink;
using testing::kUser;
using testing::kVocabSize;
using Json = nlohmann::json;

Json Token(const char* content, bool special) {
  return {{"content", content}, {"special", special}, {"normalized", false}};
}

// tokenizer.json without the last `num_removed` added tokens.
TokenizerFiles FilesWithout(size_t num_removed) {
  Json json = testing::TokenizerJson();
  Json& tokens = json["added_tokens"];
  for (size_t i = 0; i < num_removed; ++i) tokens.erase(tokens.size() - 1);
  return {.tokenizer_json = json.dump()};
}

std::unique_ptr<Tokenizer> Load(const TokenizerFiles& files) {
  auto tokenizer = Tokenizer::FromFiles(files, "dir/tokenizer.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::string ErrorOf(const TokenizerFiles& files) {
  auto tokenizer = Tokenizer::FromFiles(files, "dir/tokenizer.json");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(tokenizer.status().message());
}

std::vector<TokenId> Encode(const Tokenizer& tokenizer, std::string_view text) {
  auto ids = tokenizer.Encode(text, /*add_special_tokens=*/false);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : std::vector<TokenId>{};
}

TEST(AddedTokensTest, TokensOfTheConfigAloneAreSingleIds) {
  TokenizerFiles files = FilesWithout(3);  // <|user|>, <think>, /nothink
  // Ids are sorted as numbers, not as keys.
  files.config_json = Json{{"added_tokens_decoder",
                            {{"277", Token("/nothink", true)},
                             {"275", Token("<|user|>", true)},
                             {"276", Token("<think>", false)}}}}
                          .dump();
  const auto tokenizer = Load(files);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->VocabSize(), static_cast<size_t>(kVocabSize));
  EXPECT_THAT(Encode(*tokenizer, "<|user|>h<think>"), ElementsAre(kUser, 'h', kThink));
  EXPECT_TRUE(tokenizer->IsSpecial(kUser));
  EXPECT_FALSE(tokenizer->IsSpecial(kThink));
  EXPECT_THAT(tokenizer->Remarks(), ElementsAre(HasSubstr("3 added tokens")));
  EXPECT_THAT(Load(FilesWithout(0))->Remarks(), IsEmpty());
}

TEST(AddedTokensTest, TheConfigsFlagsCount) {
  TokenizerFiles files = FilesWithout(0);
  Json think = Token("<think>", true);
  think["rstrip"] = true;
  files.config_json = Json{{"added_tokens_decoder", {{"276", think}}}}.dump();
  const auto tokenizer = Load(files);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_TRUE(tokenizer->IsSpecial(kThink));
  EXPECT_THAT(Encode(*tokenizer, "<think>  h"), ElementsAre(kThink, 'h'));
}

TEST(AddedTokensTest, NamedAndExtraSpecialTokensFollow) {
  TokenizerFiles files = FilesWithout(0);
  files.config_json = Json{{"eos_token", "<|endoftext|>"},
                           {"pad_token", {{"content", "<pad>"}}},
                           {"image_token", "<img>"},
                           {"add_bos_token", false},
                           {"bos_token", nullptr},
                           {"additional_special_tokens", {"<a>", "<|user|>"}}}
                          .dump();
  const auto tokenizer = Load(files);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->FindToken("<|endoftext|>"), kEndOfText);
  EXPECT_EQ(tokenizer->VocabSize(), static_cast<size_t>(kVocabSize) + 3);
  EXPECT_THAT(Encode(*tokenizer, "<pad><img><a>"),
              ElementsAre(kVocabSize, kVocabSize + 1, kVocabSize + 2));
  for (const char* text : {"<pad>", "<img>", "<a>"}) {
    EXPECT_TRUE(tokenizer->IsSpecial(tokenizer->FindToken(text).value())) << text;
  }
}

TEST(AddedTokensTest, ExtraSpecialTokensMayBeAnObjectOrReplaceTheOlderList) {
  TokenizerFiles files = FilesWithout(0);
  files.config_json = Json{{"extra_special_tokens", {{"image_token", "<img>"}}},
                           {"additional_special_tokens", {"<a>"}}}
                          .dump();
  auto tokenizer = Load(files);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(Encode(*tokenizer, "<img><a>"), ElementsAre(kVocabSize, kVocabSize + 1));
  files.config_json =
      Json{{"extra_special_tokens", {"<b>"}}, {"additional_special_tokens", {"<a>"}}}.dump();
  tokenizer = Load(files);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(Encode(*tokenizer, "<b>"), ElementsAre(kVocabSize));
  EXPECT_EQ(tokenizer->FindToken("<a>"), std::nullopt);
}

TEST(AddedTokensTest, TheOlderFilesCountWithoutADecoder) {
  TokenizerFiles files = FilesWithout(2);
  files.added_tokens_json = R"({"<think>": 276, "/nothink": 277, "<|user|>": 275})";
  files.special_tokens_map_json = R"({"eos_token": {"content": "/nothink"}})";
  const auto tokenizer = Load(files);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(Encode(*tokenizer, "<think>/nothink"), ElementsAre(kThink, testing::kNoThink));
  EXPECT_FALSE(tokenizer->IsSpecial(kThink));
  EXPECT_TRUE(tokenizer->IsSpecial(testing::kNoThink));

  files.config_json = R"({"added_tokens_decoder": {}})";
  EXPECT_EQ(Load(files)->FindToken("<think>"), std::nullopt) << "a decoder replaces older files";
}

TEST(AddedTokensTest, WhatContradictsIsRefusedNamingFileAndToken) {
  struct Case {
    const char* id;
    const char* content;
    const char* why;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"274", "<new>", "\"<sop>\" there"},                 // taken by another added token
           {"104", "<new>", "\"h\" there"},                     // taken by the vocabulary
           {"279", "<think>", "has it at 276"},                 // known with another id
           {"300", "<new>", "the next free place in the vocabulary is 278"}}) {  // a gap
    TokenizerFiles files = FilesWithout(0);
    files.config_json = Json{{"added_tokens_decoder", {{c.id, Token(c.content, true)}}}}.dump();
    EXPECT_THAT(ErrorOf(files),
                AllOf(HasSubstr("dir/tokenizer.json"), HasSubstr("tokenizer_config.json"),
                      HasSubstr(c.content), HasSubstr(c.id), HasSubstr(c.why)));
  }
  TokenizerFiles older = FilesWithout(0);
  older.added_tokens_json = R"({"<new>": 290})";
  EXPECT_THAT(ErrorOf(older), AllOf(HasSubstr("added_tokens.json"), HasSubstr("<new>")));
}

TEST(AddedTokensTest, BrokenSideFilesAreNamed) {
  TokenizerFiles files = FilesWithout(0);
  for (const char* config : {"[", "[]", R"({"added_tokens_decoder": []})",
                             R"({"added_tokens_decoder": {"x": {"content": "a"}}})",
                             R"({"added_tokens_decoder": {"278": {}}})",
                             R"({"added_tokens_decoder": {"278": {"content": ""}}})",
                             R"({"added_tokens_decoder": {"-1": {"content": "a"}}})",
                             R"({"additional_special_tokens": [7]})",
                             R"({"extra_special_tokens": "x"})"}) {
    files.config_json = config;
    EXPECT_THAT(ErrorOf(files), HasSubstr("tokenizer_config.json")) << config;
  }
  files.config_json.clear();
  files.added_tokens_json = R"({"<x>": "7"})";
  EXPECT_THAT(ErrorOf(files), HasSubstr("added_tokens.json"));
}

TEST(AddedTokensTest, DropoutIsTurnedOffWithARemark) {
  Json json = testing::TokenizerJson();
  json["model"]["dropout"] = 0.9;
  const auto tokenizer = Load({.tokenizer_json = json.dump()});
  ASSERT_NE(tokenizer, nullptr);
  const TokenId hello = tokenizer->FindToken("hello").value();
  for (int i = 0; i < 50; ++i) EXPECT_THAT(Encode(*tokenizer, "hello"), ElementsAre(hello));
  EXPECT_THAT(tokenizer->Remarks(), ElementsAre(HasSubstr("dropout 0.9")));
  json["model"]["dropout"] = 0.0;
  EXPECT_THAT(Load({.tokenizer_json = json.dump()})->Remarks(), IsEmpty());
}

// Characters that stand for bytes in the vocabulary (đ, Ġ, Ċ, é) stand for themselves in added
// tokens.
TEST(AddedTokensTest, AddedTokensOfAnyScriptComeBackAsWritten) {
  const std::vector<std::string> texts = {
      "đ",      "đường",  "<Ġtag>", "Ċ",    "<|ĠĊđ|>",   "é",  "ŃĀ",    "你好吗",
      "привет", "مرحبا",  "नमस्ते",   "😀👍", "<|người|>", "ﬀ", "ñandú", "日本<|x|>"};
  Json json = testing::TokenizerJson();
  // Without these bytes as tokens, "đ", "Ċ" and "é" are tokens of their own.
  for (const char* text : {"đ", "Ċ", "é"}) json["model"]["vocab"].erase(text);
  json["model"]["merges"] = Json::array();
  json["post_processor"] = nullptr;
  json["added_tokens"] = Json::array();
  auto base = Load({.tokenizer_json = json.dump()});
  ASSERT_NE(base, nullptr);
  // The crate numbers added tokens after the size of the vocabulary.
  Json config;
  TokenId next = static_cast<TokenId>(json["model"]["vocab"].size());
  while (base->HasToken(next)) {
    json["model"]["vocab"].erase(std::string(base->TokenText(next)));
    base = Load({.tokenizer_json = json.dump()});
    next = static_cast<TokenId>(json["model"]["vocab"].size());
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    config["added_tokens_decoder"][std::to_string(next + static_cast<TokenId>(i))] =
        Token(texts[i].c_str(), i % 2 == 1);
  }
  const auto tokenizer = Load({.tokenizer_json = json.dump(), .config_json = config.dump()});
  ASSERT_NE(tokenizer, nullptr);
  for (const std::string& text : texts) {
    const std::vector<TokenId> ids = Encode(*tokenizer, "a" + text + "b" + text);
    EXPECT_THAT(ids, SizeIs(4)) << text;
    EXPECT_EQ(*tokenizer->Decode(ids, false), "a" + text + "b" + text);
    EXPECT_EQ(tokenizer->TokenBytes(ids[1]), text) << "log-probabilities and grammars read these";
    IncrementalDetokenizer stream(*tokenizer, /*skip_special_tokens=*/false);
    std::string streamed;
    for (const TokenId id : ids) streamed += stream.Push(id);
    EXPECT_EQ(streamed + stream.Finish(), "a" + text + "b" + text);
  }
}

}  // namespace
}  // namespace sheaf
