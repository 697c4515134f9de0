#include "router/text/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/byte_level_tokenizer.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::kEndOfText;
using testing::kGmask;
using testing::kNoThink;
using testing::kSop;
using testing::kThink;
using testing::kUser;
using testing::kVocabSize;

std::unique_ptr<Tokenizer> MakeTokenizer() {
  auto tokenizer = Tokenizer::FromJson(testing::TokenizerJson().dump(), "test tokenizer");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<TokenId> Encode(const Tokenizer& tokenizer, std::string_view text,
                            bool add_special = false) {
  auto ids = tokenizer.Encode(text, add_special);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : std::vector<TokenId>{};
}

std::string Decode(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                   bool skip_special = false) {
  auto text = tokenizer.Decode(ids, skip_special);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : std::string{};
}

std::string LoadError(const nlohmann::json& json) {
  auto tokenizer = Tokenizer::FromJson(json.dump(), "dir/tokenizer.json");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(tokenizer.status().message());
}

TEST(TokenizerTest, MergesAreAppliedWithinWords) {
  const auto tokenizer = MakeTokenizer();
  const TokenId hello = tokenizer->FindToken("hello").value();
  const TokenId wor = tokenizer->FindToken("\xC4\xA0wor").value();
  EXPECT_THAT(Encode(*tokenizer, "hello world"), ElementsAre(hello, wor, 'l', 'd'));
  EXPECT_EQ(tokenizer->TokenBytes(wor), " wor");
  EXPECT_EQ(tokenizer->TokenText(wor), "\xC4\xA0wor");
}

TEST(TokenizerTest, AnyTextComesBackByteForByte) {
  const auto tokenizer = MakeTokenizer();
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d", seed));
  std::mt19937_64 random(seed);
  const std::vector<std::string> pieces = {"hello",
                                           " world",
                                           "élève",
                                           "你好",
                                           "😀",
                                           "👩‍👩‍👧",
                                           "\n\n",
                                           "   ",
                                           "\t",
                                           "1234567",
                                           "don't",
                                           "ﷺ",
                                           "\xF0\x90\x8D\x88",
                                           "<|user|>",
                                           "[gMASK",
                                           "{\"a\": [1]}",
                                           "\r\n",
                                           "\xC2\xA0",
                                           "\0x",
                                           "Ω≈ç"};
  for (int round = 0; round < 200; ++round) {
    std::string text;
    const size_t num_pieces = random() % 12;
    for (size_t i = 0; i < num_pieces; ++i) text += pieces[random() % pieces.size()];
    const std::vector<TokenId> ids = Encode(*tokenizer, text);
    EXPECT_EQ(Decode(*tokenizer, ids), text);
    std::string bytes;
    for (const TokenId id : ids) bytes += tokenizer->TokenBytes(id);
    EXPECT_EQ(bytes, text);
  }
}

TEST(TokenizerTest, EveryByteHasAToken) {
  const auto tokenizer = MakeTokenizer();
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer->TokenBytes(byte), std::string(1, static_cast<char>(byte)));
  }
}

TEST(TokenizerTest, SpecialTokensInTheTextAreThoseTokens) {
  const auto tokenizer = MakeTokenizer();
  EXPECT_THAT(Encode(*tokenizer, "<|user|>hi/nothink<think>"),
              ElementsAre(kUser, 'h', 'i', kNoThink, kThink));
}

TEST(TokenizerTest, ThePrefixIsAddedOnRequestOnly) {
  const auto tokenizer = MakeTokenizer();
  EXPECT_THAT(Encode(*tokenizer, "hi", /*add_special=*/true), ElementsAre(kGmask, kSop, 'h', 'i'));
  EXPECT_THAT(Encode(*tokenizer, "", /*add_special=*/true), ElementsAre(kGmask, kSop));
  EXPECT_THAT(Encode(*tokenizer, ""), IsEmpty());
}

TEST(TokenizerTest, SkippingLeavesOutSpecialTokensAndKeepsOtherAddedOnes) {
  const auto tokenizer = MakeTokenizer();
  const std::vector<TokenId> ids = {kGmask, kSop, kUser, 'h', 'i', kNoThink, kThink, kEndOfText};
  EXPECT_EQ(Decode(*tokenizer, ids, /*skip_special=*/true), "hi<think>");
  EXPECT_EQ(Decode(*tokenizer, ids), "[gMASK]<sop><|user|>hi/nothink<think><|endoftext|>");
}

TEST(TokenizerTest, IdsWithoutATokenStandForNothing) {
  const auto tokenizer = MakeTokenizer();
  ASSERT_EQ(tokenizer->VocabSize(), static_cast<size_t>(kVocabSize));
  for (const TokenId id : {kVocabSize, kVocabSize + 1, 1 << 30, -1}) {
    EXPECT_FALSE(tokenizer->HasToken(id)) << id;
    EXPECT_FALSE(tokenizer->IsSpecial(id)) << id;
    EXPECT_EQ(tokenizer->TokenBytes(id), "") << id;
    EXPECT_EQ(Decode(*tokenizer, {'a', id, 'b'}), "ab") << id;
  }
  EXPECT_EQ(tokenizer->FindToken("no such token"), std::nullopt);
}

TEST(TokenizerTest, TheNumberingMayHaveHoles) {
  nlohmann::json json = testing::TokenizerJson();
  json["added_tokens"] = nlohmann::json::array();
  json["post_processor"] = nullptr;
  json["model"]["vocab"].erase("x");
  const auto tokenizer = Tokenizer::FromJson(json.dump(), "test tokenizer");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->VocabSize(), static_cast<size_t>(kEndOfText));
  EXPECT_FALSE((*tokenizer)->HasToken('x'));
  EXPECT_TRUE((*tokenizer)->HasToken(kEndOfText - 1));
}

TEST(TokenizerTest, BytesThatAreNotUtf8BecomeReplacementCharacters) {
  const auto tokenizer = MakeTokenizer();
  EXPECT_EQ(Decode(*tokenizer, {'a', 0xE4, 0xBD, 'b'}),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(Decode(*tokenizer, {0xFF, 0xFF}), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(TokenizerTest, AddedTokensAreListedWithTheirFlags) {
  const auto tokenizer = MakeTokenizer();
  std::vector<std::string> listed;
  for (const AddedToken& token : tokenizer->AddedTokens()) {
    listed.push_back(absl::StrFormat("%d %s %d", token.id, token.text, token.special));
    EXPECT_EQ(tokenizer->IsSpecial(token.id), token.special);
    EXPECT_EQ(tokenizer->FindToken(token.text), token.id);
  }
  EXPECT_THAT(listed, ElementsAre("272 <|endoftext|> 1", "273 [gMASK] 1", "274 <sop> 1",
                                  "275 <|user|> 1", "276 <think> 0", "277 /nothink 1"));
}

TEST(TokenizerTest, TextThatIsNotUtf8IsRefusedWithItsPlace) {
  const auto tokenizer = MakeTokenizer();
  const auto ids = tokenizer->Encode("abc\xC3", false);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("not UTF-8 at byte 3"));
}

// The engine of the pre-tokenizer's pattern gives up after a million steps in one match and then
// takes the rest of the text as one piece, without a word. The end of a text shows whether that
// happened: "1234" is split after three digits only by the pattern.
TEST(TokenizerTest, LongRunsOfOneKindAreTokenizedLikeShortOnes) {
  const auto tokenizer = MakeTokenizer();
  const auto run = [](const char* piece, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += piece;
    return text;
  };
  for (const std::string& text :
       {run(" ", 99'999), run("\n", 99'999), run(" \n", 50'000), run("\xC2\xA0", 99'999),
        run("x", 1'000'000), run("é", 500'000), run("9", 1'500'000), run("!", 1'000'000),
        run("'", 1'000'000), run("\xF0\x9F\x98\x80", 250'000)}) {
    const std::vector<TokenId> ids = Encode(*tokenizer, text + "a1234");
    ASSERT_GE(ids.size(), 5u) << text.substr(0, 4);
    EXPECT_THAT(std::vector<TokenId>(ids.end() - 5, ids.end()),
                ElementsAre('a', '1', '2', '3', '4'))
        << text.substr(0, 4);
  }
}

TEST(TokenizerTest, ARunOfBlanksThatTheEngineCannotTakeIsRefused) {
  const auto tokenizer = MakeTokenizer();
  for (const char blank : {' ', '\t', '\n'}) {
    const auto ids = tokenizer->Encode("ab" + std::string(100'001, blank), false);
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(ids.status().message()),
                HasSubstr("100000 blank characters in a row, up to byte 100002"));
  }
}

TEST(TokenizerTest, AWordBeyondTheBoundIsRefused) {
  const auto tokenizer = MakeTokenizer();
  const auto ids = tokenizer->Encode("ab " + std::string((1 << 20) + 1, 'x') + " cd", false);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()),
              HasSubstr("more than 1048576 bytes of one word, from byte 2"));
}

TEST(TokenizerTest, TruncationAndPaddingOfATrainingScriptAreDropped) {
  nlohmann::json json = testing::TokenizerJson();
  json["truncation"] = {
      {"direction", "Right"}, {"max_length", 3}, {"strategy", "LongestFirst"}, {"stride", 0}};
  json["padding"] = {
      {"strategy", {{"Fixed", 50}}}, {"direction", "Right"}, {"pad_to_multiple_of", nullptr},
      {"pad_id", kEndOfText},        {"pad_type_id", 0},     {"pad_token", "<|endoftext|>"}};
  const auto tokenizer = Tokenizer::FromJson(json.dump(), "test tokenizer");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(Encode(**tokenizer, "abcdefg").size(), 7u);
}

TEST(TokenizerTest, ManyThreadsEncodeAndDecodeAtOnce) {
  const auto tokenizer = MakeTokenizer();
  const std::string text = "hello world 你好 élève 12345 don't";
  const std::vector<TokenId> want = Encode(*tokenizer, text);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        auto ids = tokenizer->Encode(text, false);
        auto back = tokenizer->Decode(want, false);
        count += !ids.ok() || *ids != want || !back.ok() || *back != text;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST(TokenizerLoadTest, ReadsTokenizerJsonOfTheDirectory) {
  const std::string dir = ::testing::TempDir() + "/tokenizer_load_test";
  std::filesystem::create_directories(dir);
  std::ofstream(dir + "/tokenizer.json") << testing::TokenizerJson().dump();
  const auto tokenizer = Tokenizer::Load(dir);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->VocabSize(), static_cast<size_t>(kVocabSize));
}

TEST(TokenizerLoadTest, AMissingFileIsNamed) {
  const auto tokenizer = Tokenizer::Load("/nowhere");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("/nowhere/tokenizer.json"));
}

TEST(TokenizerLoadTest, ABrokenFileIsNamed) {
  for (const char* content :
       {"", "{", "[]", "{}", "\xFF\xFE", "{\"model\": {\"type\": \"Magic\"}}"}) {
    const auto tokenizer = Tokenizer::FromJson(content, "dir/tokenizer.json");
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << content;
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("dir/tokenizer.json"))
        << content;
  }
}

// The crate panics on some of these; its panic would write a stack of 40 lines before the error.
TEST(TokenizerLoadTest, PartsNestedTooDeeplyAreRefusedInOneLine) {
  for (const char* part : {"decoder", "normalizer", "pre_tokenizer", "post_processor", "model",
                           "added_tokens", "truncation"}) {
    for (const bool in_lists : {false, true}) {
      nlohmann::json nested = nullptr;
      for (int depth = 0; depth < 300; ++depth) {
        nested = in_lists ? nlohmann::json::array({nested}) : nlohmann::json{{"a", nested}};
      }
      nlohmann::json json = testing::TokenizerJson();
      json[part] = std::move(nested);
      ::testing::internal::CaptureStderr();
      const std::string error = LoadError(json);
      EXPECT_EQ(::testing::internal::GetCapturedStderr(), "") << part;
      EXPECT_THAT(error, Not(IsEmpty())) << part;
      EXPECT_THAT(error, Not(HasSubstr("\n"))) << part;
    }
  }
}

TEST(TokenizerLoadTest, ADecoderThatIsNotByteLevelIsRefused) {
  nlohmann::json json = testing::TokenizerJson();
  json["decoder"] = {{"type", "Fuse"}};
  EXPECT_THAT(LoadError(json), HasSubstr("not ByteLevel"));
  json["decoder"] = nullptr;
  EXPECT_THAT(LoadError(json), HasSubstr("no decoder"));
}

// The crate would number them otherwise without a word, and every such id would be wrong.
TEST(TokenizerLoadTest, AddedTokensWhoseIdsDoNotFollowTheVocabularyAreRefused) {
  nlohmann::json json = testing::TokenizerJson();
  json["added_tokens"][2]["id"] = 300;
  EXPECT_THAT(LoadError(json),
              HasSubstr("\"<sop>\" has id 300, but its place in the vocabulary is 274"));
}

TEST(TokenizerLoadTest, AnAbsurdTokenIdIsRefusedBeforeATableIsMadeForIt) {
  nlohmann::json json = testing::TokenizerJson();
  json["added_tokens"] = nlohmann::json::array();
  json["post_processor"] = nullptr;
  json["model"]["vocab"]["zzz"] = 4'000'000'000u;
  EXPECT_THAT(LoadError(json), HasSubstr("4000000000"));
}

}  // namespace
}  // namespace sheaf
