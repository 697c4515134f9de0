// What a draft is, what it is worth, and how much of it is verified.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <tuple>

#include "router/schedule/speculation/draft_payoff.h"
#include "router/schedule/speculation/draft_plan.h"
#include "router/schedule/speculation/draft_record.h"
#include "router/schedule/speculation/ngram_index.h"
#include "router/schedule/speculation/speculator.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

std::vector<TokenId> DraftOf(std::vector<TokenId> text, int longest, NgramOptions options = {}) {
  NgramIndex index(options);
  index.Extend(text);
  return index.Draft(text, longest);
}

TEST(NgramIndexTest, GoesOnAsTheTextWentOnBefore) {
  EXPECT_THAT(DraftOf({1, 2, 3, 4, 5, 1, 2}, 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(DraftOf({1, 2, 3, 4, 5, 1, 2}, 7), ElementsAre(3, 4, 5, 1, 2, 3, 4))
      << "what runs into the end repeats";
  EXPECT_THAT(DraftOf({7, 7, 7}, 4), ElementsAre(7, 7, 7, 7)) << "an overlap is a match";
  EXPECT_THAT(DraftOf({1, 2, 3}, 4), IsEmpty());
  EXPECT_THAT(DraftOf({1}, 4), IsEmpty());
  EXPECT_THAT(DraftOf({}, 4), IsEmpty());
  EXPECT_THAT(DraftOf({1, 2, 3, 1, 2}, 0), IsEmpty());
}

TEST(NgramIndexTest, TheLongestMatchWinsThenTheLatest) {
  EXPECT_THAT(DraftOf({9, 1, 2, 50, 8, 1, 2, 60, 9, 1, 2}, 1), ElementsAre(50));
  EXPECT_THAT(DraftOf({8, 1, 2, 50, 8, 1, 2, 60, 9, 1, 2}, 1), ElementsAre(60));
  EXPECT_THAT(DraftOf({9, 1, 2, 50, 8, 1, 2, 60, 9, 1, 2}, 1, {.min_match = 2, .max_match = 2}),
              ElementsAre(60));
  EXPECT_THAT(DraftOf({9, 1, 2, 50, 9, 1, 2}, 1, {.min_match = 4, .max_match = 4}), IsEmpty());
}

// A search without an index: all earlier places of the text's last min_match tokens.
std::vector<TokenId> SlowDraft(const std::vector<TokenId>& text, int longest,
                               const NgramOptions& options) {
  int best_end = 0, best = options.min_match - 1, places = 0;
  for (int end = static_cast<int>(text.size()) - 1; end >= options.min_match; --end) {
    int length = 0;
    while (length < options.max_match && length < end &&
           text[end - 1 - length] == text[text.size() - 1 - length]) {
      ++length;
    }
    if (length < options.min_match || ++places > NgramIndex::kPlaces) continue;
    if (length > best) std::tie(best, best_end) = std::pair(length, end);
  }
  if (best_end == 0) return {};
  std::vector<TokenId> grown = text;
  for (int i = 0; i < longest; ++i) grown.push_back(grown[best_end + i]);
  return {grown.end() - longest, grown.end()};
}

TEST(NgramIndexTest, AgreesWithASearchHoweverTheTextGrew) {
  std::mt19937 random(std::random_device{}());
  for (int play = 0; play < 200; ++play) {
    NgramOptions options;
    options.min_match = 1 + static_cast<int>(random() % 3);
    options.max_match = options.min_match + static_cast<int>(random() % 4);
    NgramIndex index(options);
    std::vector<TokenId> text;
    while (text.size() < 120) {
      for (size_t more = 1 + random() % 5; more > 0; --more) {
        text.push_back(static_cast<TokenId>(random() % 3));
      }
      index.Extend(text);
      const int longest = 1 + static_cast<int>(random() % 6);
      ASSERT_THAT(index.Draft(text, longest), ElementsAreArray(SlowDraft(text, longest, options)));
    }
  }
}

TEST(DraftRecordTest, LearnsHowFarDraftsComeTrue) {
  DraftRecord record;
  EXPECT_GT(record.Accepted(1), 0.5) << "begins hopeful";
  for (int i = 0; i < 60; ++i) record.Tried(4, 2);
  EXPECT_NEAR(record.Accepted(2), 1, 0.01);
  EXPECT_NEAR(record.Accepted(3), 0, 0.01);
  EXPECT_LE(record.Accepted(4), record.Accepted(3));
  EXPECT_EQ(record.Accepted(DraftRecord::kLongest + 1), 0);
  for (int i = 0; i < 60; ++i) record.Tried(4, 0);
  EXPECT_NEAR(record.Accepted(1), 0, 0.01);
}

TEST(DraftRecordTest, TriesAgainAfterPausesThatGrowWhileItIsVain) {
  DraftRecord record;
  const auto pause = [&] {
    int tokens = 0;
    for (; !record.ShouldProbe(); ++tokens) record.Passed();
    return tokens;
  };
  for (int i = 0; i < 3; ++i) record.Tried(1, 0);
  int last = pause();
  EXPECT_GE(last, DraftRecord::kFirstPause);
  for (int i = 0; i < 9; ++i) {
    record.Tried(1, 0);
    EXPECT_FALSE(record.ShouldProbe());
    const int next = pause();
    EXPECT_TRUE(next == 2 * last || next == DraftRecord::kLongestPause) << next;
    last = next;
  }
  EXPECT_EQ(last, DraftRecord::kLongestPause);
  record.Tried(1, 1);
  EXPECT_EQ(pause(), DraftRecord::kFirstPause);
}

DraftCandidate Candidate(int longest, double share, bool probe = false) {
  return {longest, probe, [share](int length) { return std::pow(share, length); }};
}

TEST(PlanDraftsTest, DraftsWhileTokensPerSecondRise) {
  const auto plan = [](double share, double row, int budget = 99) {
    return PlanDrafts({{Candidate(8, share)}}, 1,
                      {budget, [row](int rows) { return 1 + row * rows; }})[0];
  };
  EXPECT_EQ(plan(1.0, 0.0), 8);
  EXPECT_EQ(plan(1.0, 0.5), 8) << "half a step for a sure token";
  EXPECT_EQ(plan(1.0, 1.01), 0) << "a row costs more than it brings";
  EXPECT_EQ(plan(0.0, 0.01), 0);
  // 0.5 a row: 1.5 tokens in 1.3; then 0.25 more in 1.6 is fewer a second.
  EXPECT_EQ(plan(0.5, 0.3), 1);
  EXPECT_EQ(plan(1.0, 0.0, 3), 3) << "within the budget";
}

TEST(PlanDraftsTest, ASecondRowThatCostsMuchDoesNotHideThatTheNextCostLittle) {
  const auto jump = [](int rows) { return rows == 0 ? 1.0 : 2.2 + 0.01 * rows; };
  EXPECT_THAT(PlanDrafts({{Candidate(4, 1.0)}}, 1, {99, jump}), ElementsAre(4));
  EXPECT_THAT(PlanDrafts({{Candidate(4, 1.0)}}, 1, {1, jump}), ElementsAre(0));
}

TEST(PlanDraftsTest, TheMostProbableTokensOfAllSequencesComeFirst) {
  const std::vector<DraftCandidate> candidates = {Candidate(8, 0.9), Candidate(8, 0.5),
                                                  Candidate(2, 1.0), Candidate(8, 0.0)};
  EXPECT_THAT(PlanDrafts(candidates, 4, {5, [](int) { return 1.0; }}), ElementsAre(3, 0, 2, 0));
  const auto costly = [](int rows) { return 1.0 + 10 * rows; };
  EXPECT_THAT(PlanDrafts(candidates, 4, {99, costly}), ElementsAre(0, 0, 0, 0));
  const std::vector<DraftCandidate> probing = {Candidate(8, 0.1, true), Candidate(0, 1.0, true)};
  EXPECT_THAT(PlanDrafts(probing, 2, {99, costly}), ElementsAre(1, 0));
  EXPECT_THAT(PlanDrafts(probing, 2, {0, costly}), ElementsAre(0, 0));
}

// Plays steps of `sequences`: a plain one gives a token each in `plain_us`, a drafted one two each
// in `drafted_us`. How many of the last 1,000 were drafted.
int Drafted(DraftPayoff& payoff, int sequences, int plain_us, int drafted_us, int steps = 3000) {
  int drafted = 0;
  for (int step = 0; step < steps; ++step) {
    const bool drafts = payoff.MayDraft(sequences);
    if (step >= steps - 1000) drafted += drafts;
    payoff.StepRan(sequences, drafts, sequences * (drafts ? 2 : 1),
                   std::chrono::microseconds(drafts ? drafted_us : plain_us));
  }
  return drafted;
}

TEST(DraftPayoffTest, DraftsOnlyWhileTheClockSaysThatItPays) {
  DraftPayoff payoff;
  EXPECT_FALSE(payoff.MayDraft(1)) << "nothing to compare with yet";
  EXPECT_GT(Drafted(payoff, 1, 100, 150), 900) << "75 us a token instead of 100";
  EXPECT_LT(Drafted(payoff, 4, 100, 250), 60) << "125 us a token: tried now and then";
  EXPECT_GT(Drafted(payoff, 4, 100, 150), 900) << "it pays after all";
  EXPECT_LT(Drafted(payoff, 1, 100, 400), 60) << "not any more";
}

TEST(DraftPayoffTest, AStallOfTheMachineIsNoReason) {
  DraftPayoff payoff;
  Drafted(payoff, 1, 100, 150);
  payoff.StepRan(1, true, 2, std::chrono::seconds(1));
  EXPECT_GT(Drafted(payoff, 1, 100, 150, 1000), 800);
}

class SpeculatorTest : public ::testing::Test {
 protected:
  std::vector<TokenId> Draft(int room = 8, double row = 0) {
    const SpeculatedRun run{SequenceId(1), text_, room};
    return speculator_.Draft({&run, 1}, {99, [row](int rows) { return 1 + row * rows; }})[0];
  }
  // Steps without drafts, so that there is something to compare with.
  void RunPlainSteps() {
    for (int step = 0; step < DraftPayoff::kFew; ++step) {
      ASSERT_TRUE(Draft().empty());
      speculator_.StepRan(1, std::chrono::milliseconds(1));
    }
  }

  Speculator speculator_{{.longest_draft = 3}};
  std::vector<TokenId> text_ = {1, 2, 3, 4, 5, 1, 2};
};

TEST_F(SpeculatorTest, DraftsWithinRoomAndTheLongestDraft) {
  RunPlainSteps();
  EXPECT_THAT(Draft(), ElementsAre(3, 4, 5));
  EXPECT_THAT(Draft(2), ElementsAre(3, 4));
  EXPECT_THAT(Draft(0), IsEmpty());
  Speculator off{{}};
  const SpeculatedRun run{SequenceId(1), text_, 8};
  EXPECT_THAT(off.Draft({&run, 1}, {99, [](int) { return 1.0; }})[0], IsEmpty());
}

TEST_F(SpeculatorTest, StopsWhereItDoesNotPayAndTriesAgainLater) {
  RunPlainSteps();
  for (int i = 0; i < 40 && !Draft(8, 0.3).empty(); ++i) speculator_.Verified(SequenceId(1), 3, 0);
  EXPECT_THAT(Draft(8, 0.3), IsEmpty());
  int steps = 0;
  while (Draft(8, 0.3).empty() && steps < 1000) ++steps;
  EXPECT_LE(steps, DraftRecord::kLongestPause);
  EXPECT_THAT(Draft(8, 0.3), ElementsAre(3)) << "one token, to see";
}

TEST_F(SpeculatorTest, ALongPromptIsIndexedOverSeveralSteps) {
  RunPlainSteps();
  speculator_.Forget(SequenceId(1));
  text_.insert(text_.begin(), 2 * Speculator::kMostNewTokens, 9);
  EXPECT_THAT(Draft(), IsEmpty());
  EXPECT_THAT(Draft(), IsEmpty());
  EXPECT_THAT(Draft(), ElementsAre(3, 4, 5));
  speculator_.Forget(SequenceId(1));
  EXPECT_THAT(Draft(), IsEmpty()) << "from the beginning";
}

}  // namespace
}  // namespace sheaf
