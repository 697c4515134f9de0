// Random loads, played to the end against the rules that every plan must keep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "router/schedule/plan/step_planner.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

class Play {
 public:
  struct Rules {
    SchedulerLimits limits;
    int total_blocks = 0;
    bool priorities = false;  // or all the same
    bool prefixes = false;    // groups of sequences begin alike, and share the blocks of that
  };

  Play(std::mt19937_64& random, const Rules& rules)
      : random_(random), rules_(rules), planner_(rules.limits, {}), free_(rules.total_blocks) {}

  void Run(int num_sequences) {
    const int block_size = rules_.limits.block_size;
    const int capacity = rules_.total_blocks * block_size;
    for (int i = 1; i <= num_sequences; ++i) {
      State s;
      s.id = SequenceId(i);
      s.total = 1 + Random(std::min(capacity, 120));
      s.end = s.total + 1 + Random(std::min(capacity - s.total + 1, 60));
      if (rules_.priorities) s.priority = Random(3);
      if (rules_.prefixes) {
        s.group = Random(4);
        // Whole blocks, and at least the last token is to be run.
        s.prefix_blocks = std::min((s.total - 1) / block_size, s.group + 1);
        if (s.prefix_blocks != s.group + 1) s.prefix_blocks = 0;
      }
      arriving_.push_back(s);
    }
    int64_t steps = 0;
    while (!arriving_.empty() || !queue_.empty() || !running_.empty()) {
      while (!arriving_.empty() && (queue_.empty() || Random(2) == 0)) {
        queue_.push_back(arriving_.front());
        arriving_.pop_front();
      }
      Step();
      if (::testing::Test::HasFatalFailure()) return;
      ASSERT_LT(++steps, 100000) << "somebody starves";
    }
    EXPECT_EQ(free_, rules_.total_blocks) << "blocks leaked";
  }

  int waits_for_a_block = 0, preempted = 0, decoded = 0;

 private:
  struct State {
    SequenceId id;
    int32_t priority = 0;
    int group = 0;
    int prefix_blocks = 0;  // that its group has in common; 0: none
    int total = 0;
    int end = 0;  // total at which it ends
    int computed = 0;
    int blocks = 0;
    bool has_prefix = false;  // of those blocks, its group's prefix
    uint64_t last_step = 0;
    bool prefilled = false;
    uint64_t running_since = 0;
    int64_t overtaken = 0;

    bool decodes() const { return prefilled || total - computed == 1; }
  };

  int Random(int below) { return static_cast<int>(random_() % below); }

  bool IsShared(const State& s) const { return s.has_prefix && owners_.at(s.group) > 1; }

  void GiveBack(State& s) {
    free_ += s.blocks - (IsShared(s) ? s.prefix_blocks : 0);
    if (s.has_prefix) --owners_[s.group];
    s.has_prefix = false;
    s.blocks = s.computed = 0;
    s.prefilled = false;
  }

  static bool Before(const State& a, const State& b) {
    return std::tie(a.priority, a.id) < std::tie(b.priority, b.id);
  }

  StepPlan Plan() {
    std::vector<RunningSequence> running;
    for (State& s : running_) {
      running.push_back({s.id, s.total, s.computed, s.blocks, s.last_step, s.prefilled,
                         IsShared(s) ? s.prefix_blocks : 0, s.priority});
    }
    std::vector<QueuedSequence> queued;
    for (const State& s : queue_) {
      QueuedSequence view{s.id, s.total};
      view.priority = s.priority;
      if (s.prefix_blocks > 0 && owners_[s.group] > 0) {
        view.shared_blocks = s.prefix_blocks;
        view.cached_tokens = s.prefix_blocks * rules_.limits.block_size;
      }
      queued.push_back(view);
    }
    return planner_.Plan({running, queued, free_, rules_.total_blocks, step_});
  }

  void Step() {
    ++step_;
    const StepPlan plan = Plan();
    ASSERT_FALSE(plan.runs.empty() && plan.preempted.empty()) << "work waits and nothing runs";
    ASSERT_LE(plan.num_tokens(), rules_.limits.max_num_batched_tokens);
    Apply(plan);
    if (::testing::Test::HasFatalFailure()) return;
    for (const StepPlan::Run& run : plan.runs) {
      RunOne(run);
      if (::testing::Test::HasFatalFailure()) return;
    }
    if (!plan.runs.empty()) {
      planner_.StepDone(std::chrono::milliseconds(5 + 3 * plan.num_tokens() + Random(3)));
    }
    CheckWhoDidNotRun(plan);
    ASSERT_GE(free_, 0);
    for (State& s : running_) {
      if (s.computed < s.total) continue;
      s.prefilled = true;
      // One token, now and then a run that a guide forces; never past the end.
      const int more = Random(5) == 0 ? 1 + Random(20) : 1;
      s.total = std::min(s.total + more, s.end);
    }
    std::erase_if(running_, [&](State& s) {
      const bool over = s.total >= s.end || Random(500) == 0;  // now and then one is cancelled
      if (over) GiveBack(s);
      return over;
    });
  }

  void Apply(const StepPlan& plan) {
    const auto senior = std::min_element(running_.begin(), running_.end(), Before);
    for (SequenceId id : plan.preempted) {
      const auto s = std::find_if(running_.begin(), running_.end(),
                                  [&](const State& x) { return x.id == id; });
      ASSERT_NE(s, running_.end());
      ASSERT_TRUE(id != senior->id) << "the most senior was preempted";
      ++preempted;
      GiveBack(*s);
    }
    for (SequenceId id : plan.preempted) {
      const auto s = std::find_if(running_.begin(), running_.end(),
                                  [&](const State& x) { return x.id == id; });
      queue_.push_front(*s);
      running_.erase(s);
    }
    for (const StepPlan::Overtaken& passed : plan.overtaken) {
      const auto s = std::find_if(queue_.begin(), queue_.end(),
                                  [&](const State& x) { return x.id == passed.id; });
      ASSERT_NE(s, queue_.end());
      s->overtaken += passed.tokens;
      ASSERT_LE(s->overtaken, s->total) << "more went by than it is itself";
    }
    for (SequenceId id : plan.admitted) {
      const auto s =
          std::find_if(queue_.begin(), queue_.end(), [&](const State& x) { return x.id == id; });
      ASSERT_NE(s, queue_.end()) << "admits what does not wait";
      ASSERT_TRUE(plan.preempted.empty());
      s->running_since = step_;
      s->overtaken = 0;
      if (s->prefix_blocks > 0 && owners_[s->group] > 0) {
        s->blocks = s->prefix_blocks;
        s->computed = s->blocks * rules_.limits.block_size;
        s->has_prefix = true;
        ++owners_[s->group];
      }
      running_.push_back(*s);
      queue_.erase(s);
    }
    ASSERT_LE(running_.size(), size_t(rules_.limits.max_num_seqs));
  }

  void RunOne(const StepPlan::Run& run) {
    const int block_size = rules_.limits.block_size;
    const auto s = std::find_if(running_.begin(), running_.end(),
                                [&](const State& x) { return x.id == run.id; });
    ASSERT_NE(s, running_.end()) << "runs what is not running";
    ASSERT_NE(s->last_step, step_) << "runs twice";
    ASSERT_GE(run.num_tokens, 1);
    ASSERT_LE(run.num_tokens, s->total - s->computed);
    decoded += s->decodes();
    s->last_step = step_;
    s->computed += run.num_tokens;
    s->blocks += run.new_blocks;
    free_ -= run.new_blocks;
    ASSERT_EQ(s->blocks, BlocksForTokens(s->computed, block_size)) << "too few or for nothing";
    if (!s->has_prefix && s->prefix_blocks > 0 && owners_[s->group] == 0 &&
        s->computed >= s->prefix_blocks * block_size) {
      s->has_prefix = true;
      owners_[s->group] = 1;
    }
  }

  // Before the new tokens come.
  void CheckWhoDidNotRun(const StepPlan& plan) {
    const bool budget_is_spent = plan.num_tokens() == rules_.limits.max_num_batched_tokens;
    const auto senior = std::min_element(running_.begin(), running_.end(), Before);
    for (auto s = running_.begin(); s != running_.end(); ++s) {
      if (s->last_step == step_) continue;
      if (s->decodes() && s->running_since < step_ && !budget_is_spent) {
        ++waits_for_a_block;
        // What was just taken away counts in the next plan.
        ASSERT_TRUE(free_ == 0 || !plan.preempted.empty()) << "a decode waits, with a block free";
        ASSERT_EQ(s->computed % rules_.limits.block_size, 0) << "nor needs one";
        ASSERT_TRUE(s != senior || plan.runs.empty()) << "the most senior waits for a block";
      }
      if (s != senior || !plan.preempted.empty()) continue;
      const uint64_t idle = step_ - std::max(s->last_step, s->running_since);
      ASSERT_LE(idle, uint64_t(8 + 2 * rules_.limits.max_num_seqs))
          << "the most senior stands still";
    }
  }

  std::mt19937_64& random_;
  const Rules rules_;
  StepPlanner planner_;
  int free_;
  uint64_t step_ = 0;
  std::deque<State> arriving_, queue_;
  std::vector<State> running_;
  std::map<int, int> owners_;  // by group: how many own its prefix
};

TEST(SchedulerPlay, EveryLoadEndsAndEveryPlanKeepsTheRules) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto between = [&](int low, int high) {
    return low + static_cast<int>(random() % (high - low + 1));
  };
  int waits = 0, preempted = 0, decoded = 0;
  for (int round = 0; round < 120; ++round) {
    Play::Rules rules;
    rules.limits = {between(1, 12), between(1, 90), between(1, 20)};
    rules.total_blocks = between(1, 40);
    rules.priorities = random() % 2 == 0;
    rules.prefixes = random() % 2 == 0;
    SCOPED_TRACE(::testing::Message()
                 << "round " << round << ": " << rules.limits.max_num_seqs << " sequences, "
                 << rules.limits.max_num_batched_tokens << " tokens, " << rules.total_blocks
                 << " blocks of " << rules.limits.block_size
                 << (rules.priorities ? ", priorities" : "")
                 << (rules.prefixes ? ", prefixes" : ""));
    Play play(random, rules);
    play.Run(30);
    if (HasFatalFailure()) return;
    waits += play.waits_for_a_block;
    preempted += play.preempted;
    decoded += play.decoded;
  }
  // The rules were put to the test.
  EXPECT_GT(waits, 0);
  EXPECT_GT(preempted, 50);
  EXPECT_GT(decoded, 10000);
}

}  // namespace
}  // namespace sheaf
