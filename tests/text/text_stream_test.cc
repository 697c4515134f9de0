#include "router/text/text_stream.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/byte_level_tokenizer.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using testing::kNoThink;

class TextStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::FromJson(testing::TokenizerJson().dump(), "test tokenizer");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  static TextStreamOptions StopAt(const std::vector<std::string>& strings) {
    TextStreamOptions options;
    options.stop = std::make_shared<const StopStrings>(*StopStrings::Create(strings));
    return options;
  }

  // One string for each token and one for Finish; "#i" marks the delta with stop string i, the
  // last.
  std::vector<std::string> Deltas(const TextStreamOptions& options, std::string_view bytes) {
    std::vector<TokenId> ids;
    for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
    return Deltas(options, ids);
  }
  std::vector<std::string> Deltas(const TextStreamOptions& options,
                                  const std::vector<TokenId>& ids) {
    TextStream stream(*tokenizer_, options);
    std::vector<std::string> deltas;
    for (const TokenId id : ids) {
      const TextDelta delta = stream.Push(id);
      deltas.push_back(delta.text);
      if (delta.stop_index) {
        absl::StrAppendFormat(&deltas.back(), "#%d", *delta.stop_index);
        return deltas;
      }
    }
    const TextDelta last = stream.Finish();
    deltas.push_back(last.text);
    if (last.stop_index) absl::StrAppendFormat(&deltas.back(), "#%d", *last.stop_index);
    return deltas;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TextStreamTest, WithoutStopStringsTextFlowsThrough) {
  EXPECT_THAT(Deltas({}, "h\xC3\xA9!"), ElementsAre("h", "", "é", "!", ""));
}

TEST_F(TextStreamTest, AStopStringWithinCharactersOfSeveralTokens) {
  EXPECT_THAT(Deltas(StopAt({"好。", "x"}), "你好。"),
              ElementsAre("", "", "你", "", "", "", "", "", "#0"));
  TextStreamOptions options = StopAt({"好。"});
  options.include_stop_str_in_output = true;
  EXPECT_THAT(Deltas(options, "好。"), ElementsAre("", "", "", "", "", "好。#0"));
}

TEST_F(TextStreamTest, FinishGivesBackWhatWasHeld) {
  EXPECT_THAT(Deltas(StopAt({"abc"}), "zab"), ElementsAre("z", "", "", "ab"));
  EXPECT_THAT(Deltas(StopAt({"abc"}), "zab\xE4"), ElementsAre("z", "", "", "", "ab\xEF\xBF\xBD"));
}

TEST_F(TextStreamTest, SpecialTokensShowOnlyOnRequest) {
  TextStreamOptions options = StopAt({"/nothink"});
  EXPECT_THAT(Deltas(options, std::vector<TokenId>{'a', kNoThink, 'b'}),
              ElementsAre("a", "", "b", ""));
  options.skip_special_tokens = false;
  EXPECT_THAT(Deltas(options, std::vector<TokenId>{'a', kNoThink}), ElementsAre("a", "#0"));
}

TEST_F(TextStreamTest, StopStringsCountAfterMinTokens) {
  TextStreamOptions options = StopAt({"b"});
  options.min_tokens = 2;
  EXPECT_THAT(Deltas(options, "abab"), ElementsAre("a", "", "ba", "#0"));
}

TEST_F(TextStreamTest, TextEndTellsWhereATokenEndsThoughItsTextIsHeldBack) {
  TextStream stream(*tokenizer_, StopAt({"abc"}));
  EXPECT_EQ(stream.text_end(), 0);
  EXPECT_EQ(stream.Push('a').text_end, 1);  // held back
  EXPECT_EQ(stream.Push('b').text_end, 2);
  EXPECT_EQ(stream.Push(0xE4).text_end, 2);  // half a character
  const TextDelta delta = stream.Push(testing::kThink);
  EXPECT_EQ(delta.text, "ab\xEF\xBF\xBD<think>");
  EXPECT_EQ(delta.text_end, 12);
  EXPECT_EQ(stream.Push(kNoThink).text_end, 12);  // skipped
  EXPECT_EQ(stream.Push(0xE4).text_end, 12);
  EXPECT_EQ(stream.Finish().text_end, 15);
  EXPECT_EQ(stream.text_end(), 15);
}

TEST_F(TextStreamTest, TextEndCountsWhatAStopStringCutsOut) {
  TextStream stream(*tokenizer_, StopAt({"ab"}));
  EXPECT_EQ(stream.Push('a').text_end, 1);
  const TextDelta delta = stream.Push('b');
  EXPECT_EQ(delta.text, "");
  EXPECT_EQ(delta.text_end, 2);
}

TEST_F(TextStreamTest, AfterTheEndNothingComes) {
  TextStream stream(*tokenizer_, StopAt({"b"}));
  EXPECT_EQ(stream.Push('b').stop_index, 0);
  EXPECT_EQ(stream.Push('a').text, "");
  EXPECT_EQ(stream.Finish().text, "");
}

}  // namespace
}  // namespace sheaf
