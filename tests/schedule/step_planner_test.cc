// Serving in simulated time: what streams that decode and prompts that arrive see of each other, on
// machines whose steps cost what a function says.
#include "router/schedule/plan/step_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "router/schedule/plan/prefill_share.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Cost = std::function<double(const StepShape&)>;  // milliseconds

// Two cores and GLM-4.6's layers, about: arithmetic bounds it.
double TwoCores(const StepShape& s) {
  return 8 + 40 * (1 - std::pow(1 - 8.0 / 96, s.rows())) + 11.5 * s.rows() +
         2e-4 * static_cast<double>(s.attended) + 0.5 * s.logit_rows;
}

// Reading weights bounds it up to some hundred rows.
double FastArithmetic(const StepShape& s) {
  return 3 + 8 * (1 - std::pow(1 - 8.0 / 96, s.rows())) + 0.01 * s.rows() +
         2e-7 * static_cast<double>(s.attended) + 0.01 * s.logit_rows;
}

class Simulation {
 public:
  Simulation(Cost cost, double target_step_ms = 0)
      : cost_(std::move(cost)),
        planner_({64, 2048, 16, target_step_ms}, {96, 8}),
        free_blocks_(kBlocks) {}

  void Arrive(uint64_t id, int prompt, int output) {
    queue_.push_back({SequenceId(id), prompt, prompt + output, now_});
  }

  void Step() {
    ++step_;
    std::vector<RunningSequence> running;
    for (const Stream& s : running_) {
      running.push_back({s.id, s.total, s.computed, s.blocks, s.last_step, s.prefilled});
    }
    std::vector<QueuedSequence> queued;
    for (const Stream& s : queue_) queued.push_back({s.id, s.total});
    const StepPlan plan = planner_.Plan({running, queued, free_blocks_, kBlocks, step_});
    ASSERT_THAT(plan.preempted, IsEmpty()) << "there are blocks enough";
    ASSERT_FALSE(plan.runs.empty());
    for (const SequenceId id : plan.admitted) {
      const auto s = Find(queue_, id);
      running_.push_back(*s);
      queue_.erase(s);
    }
    step_ms = cost_(plan.shape);
    now_ += step_ms;
    prefilled += plan.shape.prefill_rows;
    most_prefilled = std::max(most_prefilled, plan.shape.prefill_rows);
    planner_.StepDone(
        std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(step_ms)));
    StepShape decodes;
    for (const StepPlan::Run& run : plan.runs) {
      const Stream& s = *Find(running_, run.id);
      if (s.prefilled) decodes.Add(/*decode=*/true, s.computed, run.num_tokens);
    }
    decodes.logit_rows = decodes.decode_rows;
    if (decodes.decode_rows > 0) growths.push_back(step_ms / cost_(decodes));
    for (const StepPlan::Run& run : plan.runs) Advance(*Find(running_, run.id), run);
    std::erase_if(running_, [this](const Stream& s) {
      if (s.total >= s.end) free_blocks_ += s.blocks;
      return s.total >= s.end;
    });
  }

  void StepUntil(const std::function<bool()>& condition) {
    for (int i = 0; !condition(); ++i) {
      ASSERT_LT(i, 200000);
      Step();
      if (::testing::Test::HasFatalFailure()) return;
    }
  }

  bool Has(uint64_t id) const { return first_token_ms.contains(id); }
  double now_ms() const { return now_; }

  std::vector<double> gaps;  // of all streams, since it was cleared
  // Of steps with decodes, the time / that which the decodes alone would have taken; the same.
  std::vector<double> growths;
  std::map<uint64_t, double> first_token_ms;  // since arrival
  double step_ms = 0;
  int64_t prefilled = 0;
  int most_prefilled = 0;  // in a step

 private:
  static constexpr int kBlocks = 100000;

  struct Stream {
    SequenceId id;
    int total = 0;
    int end = 0;
    double arrival = 0;
    int computed = 0;
    int blocks = 0;
    uint64_t last_step = 0;
    bool prefilled = false;
    double last_token = 0;
  };

  static std::vector<Stream>::iterator Find(std::vector<Stream>& streams, SequenceId id) {
    return std::find_if(streams.begin(), streams.end(),
                        [&](const Stream& s) { return s.id == id; });
  }

  void Advance(Stream& s, const StepPlan::Run& run) {
    s.computed += run.num_tokens;
    s.blocks += run.new_blocks;
    free_blocks_ -= run.new_blocks;
    s.last_step = step_;
    if (s.computed < s.total) return;
    s.prefilled = true;
    ++s.total;
    if (s.last_token > 0) {
      gaps.push_back(now_ - s.last_token);
    } else {
      first_token_ms[s.id.value()] = now_ - s.arrival;
    }
    s.last_token = now_;
  }

  const Cost cost_;
  StepPlanner planner_;
  int free_blocks_;
  uint64_t step_ = 0;
  double now_ = 0;
  std::vector<Stream> queue_, running_;
};

double Percentile99(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() * 99 / 100];
}

// The rate of prefill in steps that take kStepGrowth times what 8 decodes take, in mid-prompt.
double Attainable(const Cost& cost, int prompt) {
  StepShape decodes;
  for (int i = 0; i < 8; ++i) decodes.Add(/*decode=*/true, 500, 1);
  decodes.logit_rows = 8;
  const double target_ms = kStepGrowth * cost(decodes);
  int rows = 0;
  for (double ms = 0; ms <= target_ms; ++rows) {
    StepShape shape = decodes;
    shape.Add(/*decode=*/false, prompt / 2, rows + 1);
    ms = cost(shape);
  }
  return (rows - 1) / target_ms;
}

struct Machine {
  std::string name;
  Cost cost;
};
const Machine kMachines[] = {{"two cores", TwoCores}, {"fast arithmetic", FastArithmetic}};

TEST(StepPlanner, StreamsKeepTheirPaceWhilePromptsArrive) {
  for (const auto& [name, cost] : kMachines) {
    for (const int prompt : {2048, 32768, 131072}) {
      SCOPED_TRACE(name + ", " + std::to_string(prompt));
      Simulation simulation(cost);
      for (int i = 1; i <= 8; ++i) simulation.Arrive(i, 64, 1000000);
      simulation.StepUntil([&] { return simulation.gaps.size() > 800; });
      simulation.growths.clear();
      simulation.prefilled = 0;
      const double begin = simulation.now_ms();
      simulation.Arrive(100, prompt, 1);
      simulation.StepUntil([&] { return simulation.Has(100); });
      if (HasFatalFailure()) return;
      EXPECT_LE(Percentile99(simulation.growths), 2);
      // The first prompt's chunks must double first.
      EXPECT_GE(prompt / (simulation.now_ms() - begin),
                (prompt > 10000 ? 0.8 : 0.6) * Attainable(cost, prompt));
    }
  }
}

TEST(StepPlanner, AloneAPromptHasTheWholeBudget) {
  Simulation simulation(TwoCores);
  simulation.Arrive(1, 10000, 1);
  simulation.StepUntil([&] { return simulation.Has(1); });
  EXPECT_EQ(simulation.most_prefilled, 2048);
}

TEST(StepPlanner, AChatDoesNotWaitForALongPrompt) {
  for (const auto& [name, cost] : kMachines) {
    for (const int decodes : {0, 8}) {
      SCOPED_TRACE(name + ", " + std::to_string(decodes) + " decodes");
      Simulation simulation(cost);
      for (int i = 1; i <= decodes; ++i) simulation.Arrive(i, 64, 1000000);
      if (decodes > 0) simulation.StepUntil([&] { return simulation.gaps.size() > 800; });
      simulation.Arrive(100, 131072, 1);
      const int64_t before = simulation.prefilled;
      simulation.StepUntil([&] { return simulation.prefilled - before > 20000; });
      ASSERT_FALSE(simulation.Has(100));
      // It arrives just after a step began.
      const double step_ms = simulation.step_ms;
      StepShape own;
      own.Add(/*decode=*/false, 0, 20);
      simulation.Arrive(200, 20, 1);
      simulation.Step();
      simulation.StepUntil([&] { return simulation.Has(200); });
      EXPECT_LE(simulation.first_token_ms[200], step_ms + cost(own) + step_ms);
    }
  }
}

TEST(StepPlanner, ALongPromptHasItsShareBesideAStreamOfShortOnes) {
  for (const int decodes : {0, 8}) {
    SCOPED_TRACE(decodes);
    Simulation simulation(TwoCores);
    for (int i = 1; i <= decodes; ++i) simulation.Arrive(i, 64, 1000000);
    simulation.Arrive(100, 32768, 1);
    uint64_t next = 1000;
    const double begin = simulation.now_ms();
    // Never less than 4 K tokens of short prompts wait.
    for (int steps = 0; !simulation.Has(100) && steps < 200000; ++steps) {
      while (next - 1000 < simulation.first_token_ms.size() + 16) simulation.Arrive(next++, 256, 1);
      simulation.Step();
      if (HasFatalFailure()) return;
    }
    ASSERT_TRUE(simulation.Has(100));
    const double rate = simulation.prefilled / (simulation.now_ms() - begin);
    EXPECT_GE(32768 / (simulation.now_ms() - begin), 0.2 * rate) << "of all prefill";
  }
}

TEST(StepPlanner, ATargetThatIsSetIsKept) {
  Simulation simulation(TwoCores, 500);
  for (int i = 1; i <= 8; ++i) simulation.Arrive(i, 64, 1000000);
  simulation.StepUntil([&] { return simulation.gaps.size() > 800; });
  simulation.gaps.clear();
  simulation.Arrive(100, 32768, 1);
  simulation.StepUntil([&] { return simulation.Has(100); });
  EXPECT_LE(Percentile99(simulation.gaps), 510);
  EXPECT_GE(simulation.gaps[simulation.gaps.size() / 2], 450);
}

TEST(StepPlanner, RemembersWhoWasOvertaken) {
  StepPlanner planner({8, 1000, 16}, {});
  const std::vector<QueuedSequence> queued = {{SequenceId(2), 600}, {SequenceId(3), 350}};
  RunningSequence running{SequenceId(1), 32, 31, 2, 1, true};
  const auto plan = [&](std::vector<QueuedSequence> waiting) {
    return planner.Plan({{&running, 1}, waiting, 36, 40, 2});
  };
  EXPECT_THAT(plan(queued).admitted, ElementsAre(SequenceId(3)));
  // Another 350 would be more than its 600.
  EXPECT_THAT(plan({{SequenceId(2), 600}, {SequenceId(4), 350}}).admitted, IsEmpty());
  EXPECT_THAT(plan({{SequenceId(2), 600}, {SequenceId(4), 250}}).admitted,
              ElementsAre(SequenceId(4)));
  EXPECT_THAT(plan({{SequenceId(2), 600}, {SequenceId(5), 1}}).admitted, IsEmpty());
  // It went; another one stands there.
  EXPECT_THAT(plan({{SequenceId(6), 600}, {SequenceId(5), 1}}).admitted,
              ElementsAre(SequenceId(5)));
}

TEST(StepPlanner, PredictsThePlanOnceItHasSeenSteps) {
  StepPlanner planner({8, 1000, 16}, {});
  const RunningSequence running{SequenceId(1), 32, 31, 2, 1, true};
  for (int step = 1; step < 10; ++step) {
    planner.Plan({{&running, 1}, {}, 36, 40, 2});
    EXPECT_NEAR(planner.predicted_ms(), step == 1 ? 0 : 20, step == 1 ? 0 : 1);
    planner.StepDone(std::chrono::milliseconds(20));
  }
}

int32_t Aged(int32_t priority, Duration waited, int32_t best) {
  std::vector<RunningSequence> running(1);
  running[0].priority = priority;
  running[0].waited = waited;
  std::vector<QueuedSequence> queued(1);
  queued[0].priority = best;
  AgePriorities(running, queued);
  EXPECT_EQ(queued[0].priority, best);
  return running[0].priority;
}

TEST(AgePrioritiesTest, ALevelIsGainedNowAndThenAndNotForEver) {
  EXPECT_EQ(Aged(5, Duration{0}, -100), 5);
  EXPECT_EQ(Aged(5, kAgingInterval - std::chrono::milliseconds(1), -100), 5);
  EXPECT_EQ(Aged(5, kAgingInterval, -100), 4);
  EXPECT_EQ(Aged(5, std::chrono::hours(24), -100), 5 - kMostAging);
  constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();
  EXPECT_EQ(Aged(kLeast, std::chrono::hours(24), kLeast), kLeast);
}

TEST(AgePrioritiesTest, NobodyPassesTheBestThatAnyoneAskedFor) {
  EXPECT_EQ(Aged(5, std::chrono::hours(24), 3), 3);
  EXPECT_EQ(Aged(5, std::chrono::hours(24), 5), 5) << "it is as important as a newcomer, not more";
  EXPECT_EQ(Aged(5, std::chrono::hours(24), 6), 5);
}

}  // namespace
}  // namespace sheaf
