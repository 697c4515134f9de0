// A text in pieces has the tokens of the whole. The reference is the same tokenizer with its
// pattern in brackets: it matches alike, and as it is not the one that is known, nothing is cut.
#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "router/text/tokenizer.h"
#include "tests/text/byte_level_tokenizer.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

class PiecesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    nlohmann::json json = testing::TokenizerJson();
    cut_ = Load(json);
    auto& pattern = json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
    pattern = "(?:" + pattern.get<std::string>() + ")";
    whole_ = Load(json);
  }

  static std::unique_ptr<Tokenizer> Load(const nlohmann::json& json) {
    auto tokenizer = Tokenizer::FromJson(json.dump(), "test tokenizer");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *std::move(tokenizer);
  }

  // Kinds in runs: where a cut is possible depends on what stands beside each other.
  std::string RandomText(size_t pieces) {
    static const std::vector<std::vector<std::string>> kKinds = {
        {"hello", "a", "Z", "s", "re", "é", "你", "ß", "ſ", "ª"},
        {"1", "23", "456", "٣", "Ⅷ", "½"},
        {" ", "  ", "\t", "\u00A0", "\u2003", "\u3000"},
        {"\n", "\r\n", "\r", "\n\n", "\u0085", "\u2028"},
        {"!", ".", "'", "''", "-", "…", "\U0001F600", "\u0301", "\u200D", "_", "\u094D"},
        {"'s", "'re", "'LL", "'t", "'ſ"},
        {"<|user|>", "<think>", "/nothink", "[gMASK]", "<sop>", "<|endoftext|>"},
        {"<|us", "er|>", "<", "|>", "/no", "think", "[gMA", "SK]", "<so", "p>"}};
    std::string text;
    const auto pick = [&](size_t n) { return random_() % n; };
    while (pieces > 0) {
      const auto& kind = kKinds[pick(kKinds.size())];
      for (size_t run = 1 + pick(pick(6) == 0 ? 40 : 4); run > 0 && pieces > 0; --run, --pieces) {
        text += kind[pick(kind.size())];
      }
    }
    return text;
  }

  const uint64_t seed_ = testing::RandomSeed();
  std::mt19937_64 random_{seed_};
  std::unique_ptr<Tokenizer> cut_, whole_;
};

TEST_F(PiecesTest, AnyTextHasTheTokensOfTheWhole) {
  SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d", seed_));
  for (int i = 0; i < 1500; ++i) {
    const std::string text = RandomText(1 + random_() % 300);
    const bool special = i % 2 == 0;
    const auto wanted = whole_->Encode(text, special);
    ASSERT_TRUE(wanted.ok()) << wanted.status();
    const EncodeBounds bounds{.piece_bytes = 1 + random_() % 60};
    const auto got = cut_->Encode(text, special, bounds);
    ASSERT_TRUE(got.ok()) << got.status();
    ASSERT_EQ(*got, *wanted) << "pieces of " << bounds.piece_bytes << ": " << text;
  }
}

TEST_F(PiecesTest, AndWithPlainRanges) {
  SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d", seed_));
  for (int i = 0; i < 500; ++i) {
    RenderedChat chat;
    for (int part = 0; part < 6; ++part) {
      chat.text += RandomText(1 + random_() % 60);
      const size_t begin = chat.text.size();
      chat.text += RandomText(random_() % 60);
      chat.plain.push_back({begin, chat.text.size()});
    }
    const auto wanted = whole_->EncodeChat(chat, true);
    ASSERT_TRUE(wanted.ok()) << wanted.status();
    const auto got = cut_->EncodeChat(chat, true, {.piece_bytes = 1 + random_() % 60});
    ASSERT_TRUE(got.ok()) << got.status();
    ASSERT_EQ(*got, *wanted) << chat.text;
  }
}

TEST_F(PiecesTest, RunsOfOneKind) {
  for (const char* unit : {"7", "x", "!", "\n", " ", "é", "٣", "<sop>"}) {
    std::string text = "a b";
    for (int i = 0; i < 1000; ++i) text += unit;
    text += "c 1234";
    const auto wanted = whole_->Encode(text, false);
    ASSERT_TRUE(wanted.ok()) << wanted.status();
    EXPECT_EQ(*cut_->Encode(text, false, {.piece_bytes = 20}), *wanted) << unit;
  }
}

TEST_F(PiecesTest, ATextIsGivenUpBeyondMaxTokensAndWhenNobodyWaits) {
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "ab cd ";
  const auto all = cut_->Encode(text, false);
  ASSERT_TRUE(all.ok());
  const auto some = cut_->Encode(text, false, {.max_tokens = 100, .piece_bytes = 64});
  ASSERT_TRUE(some.ok());
  EXPECT_GT(some->size(), 100u);
  EXPECT_LT(some->size(), 200u);
  EXPECT_TRUE(std::equal(some->begin(), some->end(), all->begin()));
  int pieces = 0;
  EncodeBounds bounds{.piece_bytes = 64};
  bounds.stop = [&] { return ++pieces > 5; };
  EXPECT_EQ(cut_->Encode(text, false, bounds).status().code(), absl::StatusCode::kCancelled);
  EXPECT_LT(pieces, 10);
}

TEST_F(PiecesTest, TheLongestTokenIsMeasured) {
  size_t longest = 0;
  for (TokenId id = 0; id < static_cast<TokenId>(cut_->VocabSize()); ++id) {
    longest = std::max(longest, cut_->TokenBytes(id).size());
  }
  EXPECT_EQ(cut_->MaxTokenBytes(), longest);
  nlohmann::json json = testing::TokenizerJson();
  json["added_tokens"][0]["lstrip"] = true;
  EXPECT_EQ(Load(json)->MaxTokenBytes(), std::nullopt) << "takes any number of blanks";
  json = testing::TokenizerJson();
  json["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(Load(json)->MaxTokenBytes(), std::nullopt) << "may shorten a text";
}

}  // namespace
}  // namespace sheaf
