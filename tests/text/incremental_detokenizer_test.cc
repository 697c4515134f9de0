#include "router/text/incremental_detokenizer.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/text/utf8_stream.h"
#include "tests/text/byte_level_tokenizer.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using testing::kEndOfText;
using testing::kThink;
using testing::kVocabSize;

constexpr const char* kReplacement = "\xEF\xBF\xBD";

class IncrementalDetokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::FromJson(testing::TokenizerJson().dump(), "test tokenizer");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  // What each token adds, and last what Finish adds.
  std::vector<std::string> Deltas(const std::vector<TokenId>& ids, bool skip_special = true) {
    IncrementalDetokenizer detokenizer(*tokenizer_, skip_special);
    std::vector<std::string> deltas;
    for (const TokenId id : ids) deltas.push_back(detokenizer.Push(id));
    deltas.push_back(detokenizer.Finish());
    return deltas;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(IncrementalDetokenizerTest, ACharacterComesWithItsLastByte) {
  EXPECT_THAT(Deltas({0xC3, 0xA9, 'a'}), ElementsAre("", "é", "a", ""));
  EXPECT_THAT(Deltas({0xE4, 0xBD, 0xA0}), ElementsAre("", "", "你", ""));
  EXPECT_THAT(Deltas({0xF0, 0x9F, 0x98, 0x80}), ElementsAre("", "", "", "😀", ""));
}

TEST_F(IncrementalDetokenizerTest, ATokenMayEndOneCharacterAndBeginTheNext) {
  // "你好" with a token that holds the last byte of the first and the first byte of the second.
  const TokenId begin = tokenizer_->FindToken(testing::Symbols("\xE4\xBD")).value();
  const TokenId across = tokenizer_->FindToken(testing::Symbols("\xA0\xE5")).value();
  EXPECT_THAT(Deltas({begin, across, 0xA5, 0xBD}), ElementsAre("", "你", "", "好", ""));
}

TEST_F(IncrementalDetokenizerTest, AnUnfinishedCharacterIsReplacedAtTheEnd) {
  EXPECT_THAT(Deltas({'a', 0xF0, 0x9F}), ElementsAre("a", "", "", kReplacement));
  EXPECT_THAT(Deltas({0xE4, 'b'}), ElementsAre("", std::string(kReplacement) + "b", ""));
}

TEST_F(IncrementalDetokenizerTest, SkippedTokensDoNotBreakACharacter) {
  EXPECT_THAT(Deltas({0xC3, kEndOfText, 0xA9}), ElementsAre("", "", "é", ""));
  EXPECT_THAT(Deltas({0xC3, kEndOfText}, /*skip_special=*/false),
              ElementsAre("", std::string(kReplacement) + "<|endoftext|>", ""));
  EXPECT_THAT(Deltas({kThink, 'x'}), ElementsAre("<think>", "x", ""));
}

TEST_F(IncrementalDetokenizerTest, TheDeltasOfAnyIdsAreTheirDecodedText) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d", seed));
  std::mt19937_64 random(seed);
  // Bytes that begin, continue or break characters come often.
  const std::vector<TokenId> tricky = {0xC2, 0xC3, 0xE0, 0xE4, 0xED, 0xEF, 0xF0,
                                       0xF4, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBD,
                                       0xBF, 0xC0, 0xC1, 0xF5, 0xFF, 'a',  kEndOfText};
  for (int round = 0; round < 3000; ++round) {
    std::vector<TokenId> ids(random() % 40);
    for (TokenId& id : ids) {
      id = random() % 3 == 0 ? static_cast<TokenId>(random() % (kVocabSize + 2))
                             : tricky[random() % tricky.size()];
    }
    const bool skip_special = random() % 2 == 0;
    std::string text;
    for (const std::string& delta : Deltas(ids, skip_special)) {
      // Each delta is whole characters: decoding it by itself changes nothing.
      std::string whole;
      Utf8Stream alone;
      alone.Push(delta, whole);
      alone.Finish(whole);
      ASSERT_EQ(whole, delta);
      text += delta;
    }
    auto want = tokenizer_->Decode(ids, skip_special);
    ASSERT_TRUE(want.ok()) << want.status();
    ASSERT_EQ(text, *want) << ::testing::PrintToString(ids);
  }
}

}  // namespace
}  // namespace sheaf
