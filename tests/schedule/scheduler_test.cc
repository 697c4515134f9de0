#include "router/schedule/plan/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

SequenceId Id(uint64_t id) { return SequenceId(id); }

RunningSequence Decode(uint64_t id, int total, int block_size, uint64_t last_step = 1) {
  return {Id(id), total, total - 1, BlocksForTokens(total - 1, block_size), last_step};
}

std::map<uint64_t, int> Tokens(const StepPlan& plan) {
  std::map<uint64_t, int> tokens;
  for (const StepPlan::Run& run : plan.runs) tokens[run.id.value()] = run.num_tokens;
  return tokens;
}

using TokenMap = std::map<uint64_t, int>;

TEST(Scheduler, RunsDecodesFirstAndFillsTheBudgetWithPrefill) {
  const std::vector<RunningSequence> running = {
      {Id(1), 500, 100, 25, 1}, Decode(2, 30, 16), {Id(3), 600, 0, 0, 0}, Decode(4, 9, 16)};
  EXPECT_EQ(Tokens(PlanStep({running, {}, 100, 200, 2}, {8, 64, 16})),
            (TokenMap{{1, 62}, {2, 1}, {4, 1}}));
  EXPECT_EQ(Tokens(PlanStep({running, {}, 100, 200, 2}, {8, 412, 16})),
            (TokenMap{{1, 400}, {2, 1}, {3, 10}, {4, 1}}));
}

TEST(Scheduler, SaysWhatTheStepIs) {
  const std::vector<RunningSequence> running = {{Id(1), 500, 100, 25, 1}, Decode(2, 30, 16)};
  const StepPlan plan = PlanStep({running, {}, 100, 200}, {8, 401, 16});
  EXPECT_EQ(plan.shape.decode_rows, 1);
  EXPECT_EQ(plan.shape.prefill_rows, 400);
  EXPECT_EQ(plan.shape.attended, 30 + 400 * 100 + 400 * 401 / 2);
  EXPECT_EQ(plan.shape.logit_rows, 2) << "the prompt ends in this step";
  EXPECT_EQ(plan.num_tokens(), 401);
  EXPECT_EQ(PlanStep({running, {}, 100, 200}, {8, 400, 16}).shape.logit_rows, 1);
}

TEST(Scheduler, AsksForTheBlocksThatTheTokensNeed) {
  const std::vector<RunningSequence> running = {
      {Id(1), 17, 16, 1, 1}, {Id(2), 16, 15, 1, 1}, {Id(3), 70, 10, 1, 1}};
  const StepPlan plan = PlanStep({running, {}, 20, 40}, {8, 100, 16});
  std::map<uint64_t, int> blocks;
  for (const StepPlan::Run& run : plan.runs) blocks[run.id.value()] = run.new_blocks;
  EXPECT_EQ(blocks, (std::map<uint64_t, int>{{1, 1}, {2, 0}, {3, 4}}));
}

TEST(Scheduler, AShortPromptIsWhollyInTheNextStepAlthoughALongOneIsUnderWay) {
  const std::vector<RunningSequence> running = {{Id(1), 131072, 4096, 256, 1}};
  const std::vector<QueuedSequence> queued = {{Id(2), 20}};
  const StepPlan plan = PlanStep({running, queued, 10000, 20000, 2}, {8, 2048, 16});
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 2028}, {2, 20}}));
}

TEST(Scheduler, AdmitsInOrder) {
  const std::vector<QueuedSequence> queued = {{Id(1), 20}, {Id(2), 600}, {Id(3), 5}};
  const SchedulerLimits limits{8, 1000, 16};
  EXPECT_THAT(PlanStep({{}, queued, 60, 60}, limits).admitted, ElementsAre(Id(1), Id(2), Id(3)));
  EXPECT_THAT(PlanStep({{}, queued, 60, 60}, {2, 1000, 16}).admitted, ElementsAre(Id(1), Id(2)))
      << "max_num_seqs";
  // Beyond the budget only a few.
  const std::vector<QueuedSequence> many(20, QueuedSequence{Id(1), 100});
  EXPECT_EQ(PlanStep({{}, many, 600, 600}, {64, 100, 16}).admitted.size(), 8u);
  EXPECT_EQ(PlanStep({{}, many, 600, 600}, {64, 1100, 16}).admitted.size(), 11u);
}

TEST(Scheduler, OneThatLacksBlocksMayBePassedByAsMuchAsItIsItself) {
  const std::vector<QueuedSequence> queued = {
      {Id(1), 20}, {Id(2), 600}, {Id(3), 300}, {Id(4), 301}, {Id(5), 100}};
  const SchedulerLimits limits{8, 1000, 16};
  // 40 blocks hold 640 tokens: the second does not fit beside the first.
  StepPlan plan = PlanStep({{}, queued, 40, 40}, limits);
  EXPECT_THAT(plan.admitted, ElementsAre(Id(1), Id(3), Id(5)));
  ASSERT_EQ(plan.overtaken.size(), 1u);
  EXPECT_EQ(plan.overtaken[0].id, Id(2));
  EXPECT_EQ(plan.overtaken[0].tokens, 400);
  // Of the 600, 450 have gone by.
  std::vector<QueuedSequence> later = {{Id(2), 600}, {Id(3), 151}, {Id(5), 100}, {Id(6), 60}};
  later[0].overtaken_tokens = 450;
  const std::vector<RunningSequence> running = {Decode(1, 32, 16)};
  plan = PlanStep({running, later, 36, 40}, limits);
  EXPECT_THAT(plan.admitted, ElementsAre(Id(5)));
  later[0].overtaken_tokens = 600;
  plan = PlanStep({running, later, 36, 40}, limits);
  EXPECT_THAT(plan.admitted, IsEmpty());
  EXPECT_THAT(plan.overtaken, IsEmpty());
  EXPECT_EQ(PlanStep({running, later, 40, 48}, limits).admitted.front(), Id(2));
}

TEST(Scheduler, DeferredOnesAreSkipped) {
  std::vector<QueuedSequence> queued = {{Id(1), 20}, {Id(2), 30}, {Id(3), 5}};
  queued[1].deferred = true;
  const StepPlan plan = PlanStep({{}, queued, 60, 60}, {8, 1000, 16});
  EXPECT_THAT(plan.admitted, ElementsAre(Id(1), Id(3)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 20}, {3, 5}}));
  EXPECT_THAT(plan.overtaken, IsEmpty()) << "it lacks no blocks";
}

TEST(Scheduler, CachedTokensAreNotRunAndSharedBlocksCostNothing) {
  QueuedSequence cached{Id(2), 100};
  cached.cached_tokens = 64;  // 4 blocks
  const auto plan_with = [&](int shared_blocks, int free_blocks) {
    cached.shared_blocks = shared_blocks;
    const std::vector<RunningSequence> running = {Decode(1, 66, 16)};
    const std::vector<QueuedSequence> queued = {cached};
    return PlanStep({running, queued, free_blocks, 40}, {8, 1000, 16});
  };
  // 7 blocks for 101 tokens and one of slack.
  EXPECT_THAT(plan_with(0, 7).admitted, IsEmpty());
  const StepPlan plan = plan_with(0, 8);
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 1}, {2, 36}}));
  EXPECT_EQ(plan.runs.back().new_blocks, 3) << "beside the cached ones";
  EXPECT_EQ(plan.shape.attended, 66 + 36 * 64 + 36 * 37 / 2);
  EXPECT_THAT(plan_with(4, 3).admitted, IsEmpty());
  EXPECT_EQ(Tokens(plan_with(4, 4)), (TokenMap{{1, 1}, {2, 36}}));
}

TEST(Scheduler, BlocksThatTheCacheKeepsAreNotGivenTwice) {
  // 10 free blocks, of which 6 are the cached beginning of the newcomer. The running prefill is
  // promised 3 of them.
  const std::vector<RunningSequence> running = {{Id(1), 48, 0, 0, 0}};
  QueuedSequence cached{Id(2), 101};
  cached.cached_tokens = 96;
  const std::vector<QueuedSequence> queued = {cached};
  const auto fresh_blocks = [](const StepPlan& plan) {
    int blocks = 0;
    for (const StepPlan::Run& run : plan.runs) blocks += run.new_blocks;
    return blocks;
  };
  const StepPlan plan = PlanStep({running, queued, 11, 40}, {8, 1000, 16});
  EXPECT_THAT(plan.admitted, ElementsAre(Id(2)));
  EXPECT_EQ(fresh_blocks(plan), 4) << "3 and 1, of the 5 that the newcomer leaves";
  EXPECT_THAT(PlanStep({running, queued, 10, 40}, {8, 1000, 16}).admitted, IsEmpty());
}

TEST(Scheduler, KeepsTheBlocksThatARunningPrefillStillNeeds) {
  // 40 blocks in all; the running prefill owns 10 and needs 20 more of the 30 free.
  const std::vector<RunningSequence> running = {{Id(1), 480, 160, 10, 1}};
  const std::vector<QueuedSequence> fits = {{Id(2), 16 * 8}}, too_much = {{Id(2), 16 * 10}};
  EXPECT_EQ(PlanStep({running, fits, 30, 40}, {8, 1000, 16}).admitted.size(), 1u);
  EXPECT_EQ(PlanStep({running, too_much, 30, 40}, {8, 1000, 16}).admitted.size(), 0u);
}

TEST(Scheduler, AdmitsASequenceThatFillsTheCacheWhenItIsAlone) {
  const std::vector<QueuedSequence> queued = {{Id(1), 160}};
  EXPECT_EQ(PlanStep({{}, queued, 10, 10}, {8, 1000, 16}).admitted.size(), 1u);
}

TEST(Scheduler, PreemptsAJuniorWhenADecodeNeedsABlock) {
  const std::vector<RunningSequence> running = {Decode(1, 17, 16), Decode(2, 17, 16),
                                                Decode(3, 9, 16)};
  const std::vector<QueuedSequence> queued = {{Id(4), 1}};
  const StepPlan plan = PlanStep({running, queued, 1, 4}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(3)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 1}, {2, 1}}));
  EXPECT_THAT(plan.admitted, IsEmpty()) << "blocks taken from one are not given to a newcomer";
}

TEST(Scheduler, TheVictimIsTheOneThatCostsLeastToComputeAgain) {
  const std::vector<RunningSequence> running = {Decode(1, 17, 16), Decode(2, 60, 16),
                                                Decode(3, 25, 16), Decode(4, 90, 16)};
  EXPECT_THAT(PlanStep({running, {}, 0, 13}, {8, 100, 16}).preempted, ElementsAre(Id(3)));
  // What others own too need not be computed again, nor is it freed.
  std::vector<RunningSequence> shared = running;
  shared[3].shared_blocks = 5;
  EXPECT_THAT(PlanStep({shared, {}, 0, 13}, {8, 100, 16}).preempted, ElementsAre(Id(4)));
  shared[3].shared_blocks = 6;
  EXPECT_THAT(PlanStep({shared, {}, 0, 13}, {8, 100, 16}).preempted, ElementsAre(Id(3)));
}

TEST(Scheduler, TheVictimIsOfTheLowestPriority) {
  std::vector<RunningSequence> running = {Decode(1, 60, 16), Decode(2, 17, 16), Decode(3, 25, 16)};
  running[0].priority = 1;
  const StepPlan plan = PlanStep({running, {}, 0, 8}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(1)))
      << "older and dearer, but the others come before it";
  EXPECT_EQ(Tokens(plan), (TokenMap{{2, 1}, {3, 1}}));
}

TEST(Scheduler, APrefillThatIsNearlyDoneIsPreemptedLast) {
  const std::vector<RunningSequence> running = {
      Decode(1, 17, 16), {Id(2), 40, 32, 2, 1}, Decode(3, 60, 16), {Id(4), 200, 40, 3, 1}};
  const StepPlan plan = PlanStep({running, {}, 0, 10}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(4))) << "40 tokens, and 160 to go";
  const std::vector<RunningSequence> no_choice = {running[0], running[1]};
  EXPECT_THAT(PlanStep({no_choice, {}, 0, 10}, {8, 100, 16}).preempted, ElementsAre(Id(2)));
}

TEST(Scheduler, PreemptsSeveralMostJuniorFirst) {
  const std::vector<RunningSequence> all = {Decode(1, 33, 16), Decode(2, 33, 16), Decode(3, 9, 16),
                                            Decode(4, 9, 16)};
  const StepPlan plan = PlanStep({all, {}, 0, 6}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(4), Id(3)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 1}, {2, 1}}));
}

TEST(Scheduler, NobodyTakesABlockFromASenior) {
  const std::vector<RunningSequence> running = {Decode(1, 10, 16), Decode(2, 17, 16)};
  const StepPlan plan = PlanStep({running, {}, 0, 2}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, IsEmpty()) << "it waits with what it has";
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 1}}));
  const std::vector<QueuedSequence> queued = {{Id(3), 1}};
  EXPECT_THAT(PlanStep({running, queued, 0, 2}, {8, 100, 16}).admitted, IsEmpty());
}

TEST(Scheduler, NobodyIsPreemptedForNothing) {
  // The third could give a block, but the second needs two for a token: none.
  std::vector<RunningSequence> running = {Decode(1, 10, 16), Decode(2, 17, 16), Decode(3, 9, 16)};
  running[1].owned_blocks = 0;
  EXPECT_THAT(PlanStep({running, {}, 0, 4}, {8, 100, 16}).preempted, IsEmpty());
}

TEST(Scheduler, TwoPrefillsThatBlockEachOtherEndWithTheSeniorRunning) {
  const std::vector<RunningSequence> running = {{Id(1), 64, 32, 2, 1}, {Id(2), 64, 32, 2, 1}};
  const StepPlan plan = PlanStep({running, {}, 0, 4}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(2)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 16}}));
}

TEST(Scheduler, TheMostSeniorPrefillTakesBlocksFromDecodes) {
  const std::vector<RunningSequence> running = {
      {Id(1), 64, 32, 2, 1}, Decode(2, 20, 16), Decode(3, 30, 16)};
  const StepPlan plan = PlanStep({running, {}, 0, 6}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(2)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 16}, {3, 1}}));
}

TEST(Scheduler, WithMoreDecodesThanBudgetTheLongestWaitingRun) {
  const std::vector<RunningSequence> running = {
      Decode(1, 5, 16, 9), Decode(2, 5, 16, 7), Decode(3, 5, 16, 8), {Id(4), 100, 0, 0, 3}};
  EXPECT_EQ(Tokens(PlanStep({running, {}, 10, 20}, {8, 2, 16})), (TokenMap{{4, 2}}));
  const std::vector<RunningSequence> decodes(running.begin(), running.begin() + 3);
  EXPECT_EQ(Tokens(PlanStep({decodes, {}, 10, 20}, {8, 2, 16})), (TokenMap{{2, 1}, {3, 1}}));
}

TEST(Scheduler, AForcedRunIsADecode) {
  // Past its prefill, a sequence of 5 missing tokens goes before the prompts; not past it, behind.
  const std::vector<RunningSequence> running = {
      {Id(1), 500, 100, 25, 1}, {Id(2), 35, 30, 2, 1, /*prefilled=*/true}, Decode(3, 9, 16)};
  EXPECT_EQ(Tokens(PlanStep({running, {}, 100, 200}, {8, 10, 16})),
            (TokenMap{{1, 4}, {2, 5}, {3, 1}}));
  // It takes blocks from the youngest as a decode does.
  const std::vector<RunningSequence> full = {
      {Id(1), 40, 16, 1, 1, /*prefilled=*/true}, Decode(2, 9, 16), Decode(3, 9, 16)};
  const StepPlan plan = PlanStep({full, {}, 1, 4}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(3)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 24}, {2, 1}}));
  // Runs that exhaust the budget take turns.
  const std::vector<RunningSequence> runs = {
      {Id(1), 40, 20, 3, 7, true}, {Id(2), 40, 20, 3, 5, true}, {Id(3), 40, 20, 3, 6, true}};
  EXPECT_EQ(Tokens(PlanStep({runs, {}, 10, 20}, {8, 25, 16})), (TokenMap{{2, 20}, {3, 5}}));
}

TEST(Scheduler, PlansNothingForNobody) {
  const StepPlan plan = PlanStep({{}, {}, 10, 10}, {});
  EXPECT_THAT(plan.runs, IsEmpty());
  EXPECT_EQ(plan.num_tokens(), 0);
}

}  // namespace
}  // namespace sheaf
