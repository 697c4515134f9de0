#include "router/text/stop_matcher.h"

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

StopMatcher MakeMatcher(const std::vector<std::string>& strings, bool include_stop = false) {
  auto stop = StopStrings::Create(strings);
  EXPECT_TRUE(stop.ok()) << stop.status();
  return StopMatcher(std::make_shared<const StopStrings>(*std::move(stop)), include_stop);
}

struct Outcome {
  std::string text;
  std::optional<int> stop_index;
  bool operator==(const Outcome&) const = default;
};

Outcome Match(StopMatcher matcher, const std::vector<std::string>& pieces) {
  Outcome outcome;
  for (const std::string& piece : pieces) {
    StopMatcher::Result result = matcher.Push(piece);
    outcome.text += result.text;
    if (result.stop_index) return {outcome.text, result.stop_index};
  }
  outcome.text += matcher.Finish();
  return outcome;
}

// The definition, tried position by position.
Outcome Naive(const std::vector<std::string>& strings, const std::string& text, bool include_stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<int> best;
    for (size_t i = 0; i < strings.size(); ++i) {
      if (!std::string_view(text).substr(0, end).ends_with(strings[i])) continue;
      if (!best || strings[i].size() > strings[*best].size()) best = static_cast<int>(i);
    }
    if (best) return {text.substr(0, include_stop ? end : end - strings[*best].size()), best};
  }
  return {text, std::nullopt};
}

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << '"' << outcome.text << "\", stop " << outcome.stop_index.value_or(-1);
}

TEST(StopMatcherTest, TextEndsBeforeTheStopString) {
  EXPECT_EQ(Match(MakeMatcher({"END"}), {"one END two"}), (Outcome{"one ", 0}));
  EXPECT_EQ(Match(MakeMatcher({"END"}, true), {"one END two"}), (Outcome{"one END", 0}));
}

TEST(StopMatcherTest, AMatchAcrossPiecesIsFoundAndNothingOfItWasShown) {
  StopMatcher matcher = MakeMatcher({"\n\nUser:"});
  EXPECT_EQ(matcher.Push("Fine.\n").text, "Fine.");
  EXPECT_EQ(matcher.Push("\nUs").text, "");
  const StopMatcher::Result result = matcher.Push("er: hi");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.stop_index, 0);
  EXPECT_EQ(matcher.Push("more").text, "");
}

TEST(StopMatcherTest, WhatTurnsOutToBeNoStopStringIsShown) {
  StopMatcher matcher = MakeMatcher({"</answer>"});
  EXPECT_EQ(matcher.Push("a</ans").text, "a");
  EXPECT_EQ(matcher.Push("</").text, "</ans");
  EXPECT_EQ(matcher.Push("b").text, "</b");
  EXPECT_EQ(matcher.Push("<").text, "");
  EXPECT_EQ(matcher.Finish(), "<");
}

TEST(StopMatcherTest, OverlappingStopStrings) {
  EXPECT_EQ(Match(MakeMatcher({"abc", "b"}), {"abc"}), (Outcome{"a", 1}));  // "b" ends first
  EXPECT_EQ(Match(MakeMatcher({"b", "ab"}), {"xab"}),
            (Outcome{"x", 1}));  // both end there: the longer
  EXPECT_EQ(Match(MakeMatcher({"ab", "ab"}), {"ab"}),
            (Outcome{"", 0}));  // the same twice: the first
  EXPECT_EQ(Match(MakeMatcher({"aab"}), {"a", "a", "a", "b"}),
            (Outcome{"a", 0}));  // falls back into itself
  EXPECT_EQ(Match(MakeMatcher({"abcd", "bce"}), {"abce"}),
            (Outcome{"a", 1}));  // falls back into another
}

TEST(StopMatcherTest, HeldBackTextIsWholeCharacters) {
  StopMatcher matcher = MakeMatcher({"好吗"});
  EXPECT_EQ(matcher.Push("你好").text, "你");
  EXPECT_EQ(matcher.Push("的").text, "好的");
}

TEST(StopMatcherTest, AMatchMayBeginButNotEndWhereStoppingIsOff) {
  StopMatcher matcher = MakeMatcher({"ab", "bcd"});
  EXPECT_EQ(matcher.Push("xab", /*may_stop=*/false).stop_index, std::nullopt);
  const StopMatcher::Result result = matcher.Push("cd", /*may_stop=*/true);
  EXPECT_EQ(result.text, "a");
  EXPECT_EQ(result.stop_index, 1);
}

TEST(StopMatcherTest, NoStopStringsHoldNothingBack) {
  StopMatcher matcher = MakeMatcher({});
  EXPECT_EQ(matcher.Push("anything").text, "anything");
}

TEST(StopMatcherTest, AnyTextInAnyPiecesGivesTheDefinedResult) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d", seed));
  std::mt19937_64 random(seed);
  const auto random_text = [&](size_t max_size) {
    std::string text(random() % (max_size + 1), 'a');
    for (char& c : text) c = "ab\n"[random() % 3];
    return text;
  };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> strings(random() % 4);
    for (std::string& s : strings) s = random_text(4) + "ab"[random() % 2];
    const bool include_stop = random() % 2 == 0;
    const std::string text = random_text(30);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, random() % 4));
      at += pieces.back().size();
    }
    ASSERT_EQ(Match(MakeMatcher(strings, include_stop), pieces), Naive(strings, text, include_stop))
        << ::testing::PrintToString(strings) << " in " << ::testing::PrintToString(pieces);
  }
}

// A naive search would need 2^18 * 2^15 comparisons here.
TEST(StopMatcherTest, LongNearMissesCostNoMoreThanOtherText) {
  StopMatcher matcher = MakeMatcher({std::string(1 << 15, 'a') + "b"});
  size_t shown = 0;
  for (int i = 0; i < 1 << 18; ++i) shown += matcher.Push(i % 1000 == 999 ? "c" : "a").text.size();
  shown += matcher.Finish().size();
  EXPECT_EQ(shown, size_t{1} << 18);
}

TEST(StopStringsTest, EmptyOrHugeStopStringsAreRefused) {
  EXPECT_THAT(StopStrings::Create(std::vector<std::string>{"a", ""}).status().ToString(),
              HasSubstr("stop[1] is an empty string"));
  EXPECT_EQ(
      StopStrings::Create(std::vector<std::string>(2, std::string(40'000, 'x'))).status().code(),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sheaf
