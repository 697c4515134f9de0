#include "router/schedule/plan/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "tests/text/random_seed.h"

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
      {Id(1), 500, 100, 25, 1}, Decode(2, 30, 16), {Id(3), 50, 0, 0, 0}, Decode(4, 9, 16)};
  EXPECT_EQ(Tokens(PlanStep({running, {}, 100, 200}, {8, 64, 16})),
            (TokenMap{{1, 62}, {2, 1}, {4, 1}}));
  EXPECT_EQ(Tokens(PlanStep({running, {}, 100, 200}, {8, 412, 16})),
            (TokenMap{{1, 400}, {2, 1}, {3, 10}, {4, 1}}));
}

TEST(Scheduler, AsksForTheBlocksThatTheTokensNeed) {
  const std::vector<RunningSequence> running = {
      {Id(1), 17, 16, 1, 1}, {Id(2), 16, 15, 1, 1}, {Id(3), 70, 10, 1, 1}};
  const StepPlan plan = PlanStep({running, {}, 20, 40}, {8, 100, 16});
  std::map<uint64_t, int> blocks;
  for (const StepPlan::Run& run : plan.runs) blocks[run.id.value()] = run.new_blocks;
  EXPECT_EQ(blocks, (std::map<uint64_t, int>{{1, 1}, {2, 0}, {3, 4}}));
}

TEST(Scheduler, AdmitsInOrderAndOvertakesNobody) {
  const std::vector<QueuedSequence> queued = {{Id(1), 20}, {Id(2), 600}, {Id(3), 5}};
  const SchedulerLimits limits{8, 1000, 16};
  // 40 blocks hold 640 tokens: the second does not fit beside the first, so the third waits too.
  StepPlan plan = PlanStep({{}, queued, 40, 40}, limits);
  EXPECT_EQ(plan.admitted.size(), 1u);
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 20}}));
  plan = PlanStep({{}, queued, 60, 60}, limits);
  EXPECT_EQ(plan.admitted.size(), 3u);
  EXPECT_EQ(PlanStep({{}, queued, 60, 60}, {2, 1000, 16}).admitted.size(), 2u) << "max_num_seqs";
  EXPECT_EQ(Tokens(PlanStep({{}, queued, 60, 60}, {8, 100, 16})), (TokenMap{{1, 20}, {2, 80}}))
      << "budget";
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

TEST(Scheduler, PreemptsTheLastAdmittedWhenADecodeNeedsABlock) {
  const std::vector<RunningSequence> running = {Decode(1, 17, 16), Decode(2, 17, 16),
                                                Decode(3, 9, 16)};
  const std::vector<QueuedSequence> queued = {{Id(4), 1}};
  const StepPlan plan = PlanStep({running, queued, 1, 4}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(3)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 1}, {2, 1}}));
  EXPECT_EQ(plan.admitted.size(), 0u) << "blocks taken from one are not given to a newcomer";
}

TEST(Scheduler, PreemptsSeveralNewestFirst) {
  const std::vector<RunningSequence> running = {
      Decode(1, 17, 16), Decode(2, 16, 16), {Id(3), 40, 8, 1, 1}, Decode(4, 8, 16)};
  const StepPlan one = PlanStep({running, {}, 0, 4}, {8, 100, 16});
  EXPECT_THAT(one.preempted, ElementsAre(Id(4)));
  const std::vector<RunningSequence> all = {Decode(1, 33, 16), Decode(2, 33, 16),
                                            Decode(3, 33, 16)};
  const StepPlan two = PlanStep({all, {}, 0, 6}, {8, 100, 16});
  EXPECT_THAT(two.preempted, ElementsAre(Id(3)));
  EXPECT_EQ(Tokens(two), (TokenMap{{1, 1}, {2, 1}}));
}

TEST(Scheduler, ASequencePreemptsItselfRatherThanAnOlderOne) {
  const std::vector<RunningSequence> running = {Decode(1, 10, 16), Decode(2, 17, 16)};
  const StepPlan plan = PlanStep({running, {}, 0, 2}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(2)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 1}}));
}

TEST(Scheduler, TwoPrefillsThatBlockEachOtherEndWithTheOlderOneRunning) {
  const std::vector<RunningSequence> running = {{Id(1), 64, 32, 2, 1}, {Id(2), 64, 32, 2, 1}};
  const StepPlan plan = PlanStep({running, {}, 0, 4}, {8, 100, 16});
  EXPECT_THAT(plan.preempted, ElementsAre(Id(2)));
  EXPECT_EQ(Tokens(plan), (TokenMap{{1, 32}}));
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

// Random loads, played to the end against the rules that every plan must keep.
class Play {
 public:
  Play(std::mt19937_64& random, SchedulerLimits limits, int total_blocks)
      : random_(random), limits_(limits), total_blocks_(total_blocks), free_(total_blocks) {}

  void Run(int num_sequences) {
    const int capacity = total_blocks_ * limits_.block_size;
    for (int i = 1; i <= num_sequences; ++i) {
      const int prompt = 1 + static_cast<int>(random_() % std::min(capacity, 120));
      const int output = 1 + static_cast<int>(random_() % std::min(capacity - prompt + 1, 60));
      arriving_.push_back({Id(i), prompt, prompt + output});
    }
    int64_t steps = 0;
    while (!arriving_.empty() || !queue_.empty() || !running_.empty()) {
      while (!arriving_.empty() && (queue_.empty() || random_() % 2 == 0)) {
        queue_.push_back(arriving_.front());
        arriving_.pop_front();
      }
      Step();
      if (::testing::Test::HasFatalFailure()) return;
      ASSERT_LT(++steps, 400000) << "somebody starves";
    }
    EXPECT_EQ(free_, total_blocks_) << "blocks leaked";
    for (const auto& [id, admitted_at] : first_admission_) {
      EXPECT_EQ(admitted_at, id.value()) << "admitted out of order";
    }
  }

 private:
  struct State {
    SequenceId id;
    int total = 0;
    int end = 0;  // total at which it ends
    int computed = 0;
    int blocks = 0;
    uint64_t last_step = 0;
    bool prefilled = false;
  };

  void Step() {
    ++step_;
    std::vector<RunningSequence> running;
    for (const State& s : running_)
      running.push_back({s.id, s.total, s.computed, s.blocks, s.last_step, s.prefilled});
    std::vector<QueuedSequence> queued;
    for (const State& s : queue_) queued.push_back({s.id, s.total});
    const StepPlan plan = PlanStep({running, queued, free_, total_blocks_}, limits_);

    ASSERT_FALSE(plan.runs.empty()) << "work waits and nothing runs";
    ASSERT_LE(plan.num_tokens(), limits_.max_num_batched_tokens);
    for (SequenceId id : plan.preempted) {
      ASSERT_FALSE(id == running_.front().id) << "the oldest was preempted";
      ASSERT_TRUE(id == running_.back().id) << "not the newest first";
      State victim = running_.back();
      running_.pop_back();
      free_ += victim.blocks;
      victim.blocks = victim.computed = 0;
      victim.prefilled = false;
      queue_.push_front(victim);
    }
    for (const SequenceId id : plan.admitted) {
      ASSERT_EQ(id, queue_.front().id) << "nobody is overtaken";
      running_.push_back(queue_.front());
      first_admission_.emplace(queue_.front().id, first_admission_.size() + 1);
      queue_.pop_front();
    }
    ASSERT_LE(running_.size(), size_t(limits_.max_num_seqs));
    for (const StepPlan::Run& run : plan.runs) {
      const auto s = std::find_if(running_.begin(), running_.end(),
                                  [&](const State& x) { return x.id == run.id; });
      ASSERT_NE(s, running_.end()) << "runs what is not running";
      ASSERT_NE(s->last_step, step_) << "runs twice";
      ASSERT_GE(run.num_tokens, 1);
      ASSERT_LE(run.num_tokens, s->total - s->computed);
      s->last_step = step_;
      s->computed += run.num_tokens;
      s->blocks += run.new_blocks;
      free_ -= run.new_blocks;
      ASSERT_GE(s->blocks * limits_.block_size, s->computed);
      ASSERT_EQ(s->blocks, BlocksForTokens(s->computed, limits_.block_size))
          << "a block for nothing";
      if (s->computed < s->total) continue;
      s->prefilled = true;
      // One token, now and then a run that a guide forces; never past the end.
      const int more = random_() % 5 == 0 ? 1 + static_cast<int>(random_() % 20) : 1;
      s->total = std::min(s->total + more, s->end);
    }
    ASSERT_GE(free_, 0);
    std::erase_if(running_, [&](const State& s) {
      const bool over = s.total >= s.end || random_() % 500 == 0;  // now and then one is cancelled
      if (over) free_ += s.blocks;
      return over;
    });
  }

  std::mt19937_64& random_;
  const SchedulerLimits limits_;
  const int total_blocks_;
  int free_;
  uint64_t step_ = 0;
  std::deque<State> arriving_, queue_;
  std::vector<State> running_;
  std::map<SequenceId, uint64_t> first_admission_;
};

TEST(Scheduler, EveryLoadEndsAndEveryPlanKeepsTheRules) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 60; ++round) {
    const SchedulerLimits limits{1 + static_cast<int>(random() % 12),
                                 1 + static_cast<int>(random() % 90),
                                 1 + static_cast<int>(random() % 20)};
    const int blocks = 1 + static_cast<int>(random() % 40);
    SCOPED_TRACE(::testing::Message()
                 << "round " << round << ": " << limits.max_num_seqs << " sequences, "
                 << limits.max_num_batched_tokens << " tokens, " << blocks << " blocks of "
                 << limits.block_size);
    Play(random, limits, blocks).Run(30);
    if (HasFatalFailure()) return;
  }
}

TEST(Scheduler, PlansNothingForNobody) {
  const StepPlan plan = PlanStep({{}, {}, 10, 10}, {});
  EXPECT_THAT(plan.runs, IsEmpty());
  EXPECT_EQ(plan.num_tokens(), 0);
}

}  // namespace
}  // namespace sheaf
