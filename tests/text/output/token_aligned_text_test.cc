#include "router/text/output/token_aligned_text.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "router/text/text_stream.h"
#include "tests/text/byte_level_tokenizer.h"
#include "tests/text/output/aligned_text.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::kThink;

class TokenAlignedTextTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::FromJson(testing::TokenizerJson().dump(), "test tokenizer");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  // kNoThink stands in for a tag that is a special token.
  static OutputTags Tags() {
    OutputTags tags;
    tags.think_begin = kThink;
    tags.think_end = testing::kNoThink;
    return tags;
  }

  static std::vector<TokenId> Bytes(std::string_view bytes) {
    std::vector<TokenId> ids;
    for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }

  // Through a TextStream with these stop strings. Ordinary neighbours are joined; tags in brackets.
  std::string Aligned(const std::vector<TokenId>& ids, const std::vector<std::string>& stop,
                      bool skip_special_tokens = true, bool include_stop = false) {
    TextStreamOptions options;
    options.stop = std::make_shared<const StopStrings>(*StopStrings::Create(stop));
    options.skip_special_tokens = skip_special_tokens;
    options.include_stop_str_in_output = include_stop;
    TextStream stream(*tokenizer_, options);
    TokenAlignedText aligned = testing::AlignedText(*tokenizer_, Tags(), skip_special_tokens);
    std::vector<TextPiece> pieces;
    bool ended = false;
    for (const TokenId id : ids) {
      const TextDelta delta = stream.Push(id);
      aligned.Push(id, delta.text, delta.text_end, pieces);
      ended = delta.stop_index.has_value();
      if (ended) break;
    }
    aligned.Finish(ended ? "" : stream.Finish().text, pieces);
    std::string shown;
    for (const TextPiece& piece : pieces) {
      shown += piece.tag ? absl::StrFormat("[%d %s]", *piece.tag, piece.text) : piece.text;
    }
    return shown;
  }

  std::vector<TokenId> Join(std::vector<std::vector<TokenId>> parts) {
    std::vector<TokenId> ids;
    for (const auto& part : parts) ids.insert(ids.end(), part.begin(), part.end());
    return ids;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TokenAlignedTextTest, ATagGetsItsOwnText) {
  EXPECT_EQ(Aligned(Join({Bytes("a"), {kThink}, Bytes("b")}), {}), "a[276 <think>]b");
  EXPECT_EQ(Aligned(Join({{kThink}, {kThink}}), {}), "[276 <think>][276 <think>]");
  // The same characters from other tokens are text.
  EXPECT_EQ(Aligned(Bytes("<think>"), {}), "<think>");
}

TEST_F(TokenAlignedTextTest, TextThatIsHeldBackComesBeforeTheTag) {
  EXPECT_EQ(Aligned(Join({Bytes("ab"), {kThink}, Bytes("c")}), {"abc"}), "ab[276 <think>]c");
  // Half a character becomes U+FFFD with the tag's event.
  EXPECT_EQ(Aligned(Join({Bytes("\xE4\xBD"), {kThink}, Bytes("c")}), {}),
            "\xEF\xBF\xBD[276 <think>]c");
  // The tag begins or is within what may become a stop string.
  EXPECT_EQ(Aligned(Join({Bytes("x"), {kThink}, Bytes("y")}), {"k>z"}), "x[276 <think>]y");
  EXPECT_EQ(Aligned(Join({Bytes("x"), {kThink}, {kThink}, Bytes("y")}), {"x<think><think>z"}),
            "x[276 <think>][276 <think>]y");
  EXPECT_EQ(Aligned(Join({Bytes("x"), {kThink}}), {"x<think>z"}), "x[276 <think>]");
}

TEST_F(TokenAlignedTextTest, ATagThatAStopStringCutsIsText) {
  EXPECT_EQ(Aligned(Join({Bytes("a"), {kThink}, Bytes("b")}), {"ink>b"}), "a<th");
  EXPECT_EQ(Aligned(Join({Bytes("a"), {kThink}}), {"<think>"}), "a");
  EXPECT_EQ(Aligned(Join({Bytes("a"), {kThink}}), {"thi"}), "a<");
  EXPECT_EQ(Aligned(Join({Bytes("a"), {kThink}}), {"<think>"}, true, true), "a[276 <think>]");
  EXPECT_EQ(Aligned(Join({Bytes("a"), {kThink}}), {"thi"}, true, true), "a<thi");
}

TEST_F(TokenAlignedTextTest, ATagThatIsNotShownKeepsItsPlace) {
  const TokenId hidden = testing::kNoThink;
  EXPECT_EQ(Aligned(Join({Bytes("ab"), {hidden}, Bytes("c")}), {}), "ab[277 ]c");
  EXPECT_EQ(Aligned(Join({Bytes("ab"), {hidden}, Bytes("cx")}), {"abcd"}), "ab[277 ]cx");
  EXPECT_EQ(Aligned(Join({Bytes("ab"), {hidden}, Bytes("c")}), {"abc"}), "");
  EXPECT_EQ(Aligned(Join({Bytes("ab"), {hidden}, Bytes("c")}), {}, false), "ab[277 /nothink]c");
}

TEST_F(TokenAlignedTextTest, AStopTokenBringsNoText) {
  TokenAlignedText aligned = testing::AlignedText(*tokenizer_, Tags(), true);
  std::vector<TextPiece> pieces;
  aligned.Push('a', "a", 1, pieces);
  aligned.Push(kThink, "", 1, pieces);
  aligned.Finish("", pieces);
  EXPECT_EQ(pieces, (std::vector<TextPiece>{{std::nullopt, "a"}}));

  // Nor does it take the text that was held back until then for its own.
  TokenAlignedText held_back = testing::AlignedText(*tokenizer_, Tags(), true);
  pieces.clear();
  held_back.Push('a', "", 9, pieces);
  held_back.Push(kThink, "", 9, pieces);
  held_back.Finish("held back", pieces);
  EXPECT_EQ(pieces, (std::vector<TextPiece>{{std::nullopt, "held back"}}));
}

TEST_F(TokenAlignedTextTest, WithoutPositionsATokenEndsWithItsText) {
  TokenAlignedText aligned = testing::AlignedText(*tokenizer_, Tags(), true);
  std::vector<TextPiece> pieces;
  aligned.Push('a', "a", -1, pieces);
  aligned.Push(kThink, "<think>", -1, pieces);
  aligned.Push('b', "b", -1, pieces);
  aligned.Finish("", pieces);
  EXPECT_EQ(pieces, (std::vector<TextPiece>{
                        {std::nullopt, "a"}, {kThink, "<think>"}, {std::nullopt, "b"}}));
}

TEST_F(TokenAlignedTextTest, OrdinaryTextIsNotHeldBack) {
  TokenAlignedText aligned = testing::AlignedText(*tokenizer_, Tags(), true);
  std::vector<TextPiece> pieces;
  aligned.Push('a', "<thi", 4, pieces);
  EXPECT_EQ(pieces, (std::vector<TextPiece>{{std::nullopt, "<thi"}}));
}

std::string WithoutIds(std::string text) {
  for (const std::string_view bracket : {"[276 ", "[277 ", "]"}) {
    for (size_t at; (at = text.find(bracket)) != std::string::npos;) text.erase(at, bracket.size());
  }
  return text;
}

// Without stop strings the alignment is plain: each token's text in its place. With them the result
// is a beginning of that, whatever was held back meanwhile.
TEST_F(TokenAlignedTextTest, RandomTokensAndStopStrings) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const std::vector<TokenId> tokens = {'a',  'b',  '<',  '>', kThink, kThink, testing::kNoThink,
                                       0xE4, 0xBD, 0xA0, 'k', 't'};
  const std::vector<std::string> stops = {"abk", "k>a", "a<t", "<think><", "bb", "t", "<think>"};
  for (int round = 0; round < 20'000; ++round) {
    std::vector<TokenId> ids;
    for (int n = static_cast<int>(random() % 12); n > 0; --n) {
      ids.push_back(tokens[random() % tokens.size()]);
    }
    const bool skip = random() % 2 == 0;
    const std::string whole = Aligned(ids, {}, skip);
    std::vector<std::string> stop;
    for (int n = static_cast<int>(random() % 3); n > 0; --n) {
      stop.push_back(stops[random() % stops.size()]);
    }
    const std::string cut = Aligned(ids, stop, skip);
    // Of a tag that was cut there is only the beginning, and no bracket.
    ASSERT_TRUE(WithoutIds(whole).starts_with(WithoutIds(cut))) << whole << " cut " << cut;
    const size_t last_whole_tag = cut.rfind(']');
    if (last_whole_tag != std::string::npos) {
      ASSERT_TRUE(whole.starts_with(cut.substr(0, last_whole_tag + 1))) << whole << " cut " << cut;
    }
    if (stop.empty()) {
      ASSERT_EQ(cut, whole);
    }
  }
}

}  // namespace
}  // namespace sheaf
