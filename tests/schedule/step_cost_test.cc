#include "router/schedule/plan/step_cost.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

constexpr ExpertSpread kSpread{96, 8};

Duration Ms(double ms) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(ms));
}

StepShape Decodes(int count, int64_t position) {
  StepShape shape;
  for (int i = 0; i < count; ++i) shape.Add(/*decode=*/true, position, 1);
  shape.logit_rows = count;
  return shape;
}

StepShape With(StepShape shape, int64_t first, int rows) {
  shape.Add(/*decode=*/false, first, rows);
  return shape;
}

double Touched(int rows) { return 1 - std::pow(1 - 8.0 / 96, rows); }

struct Machine {
  std::string name;
  std::function<double(const StepShape&)> ms;
};

std::vector<Machine> Machines() {
  return {
      {"arithmetic bounds it", [](const StepShape& s) { return 4 + 12.0 * s.rows(); }},
      {"reading weights bounds it",
       [](const StepShape& s) { return 30 + 200 * Touched(s.rows()) + 0.05 * s.rows(); }},
      {"attention bounds it",
       [](const StepShape& s) {
         return 5 + 0.5 * s.rows() + 2e-4 * static_cast<double>(s.attended);
       }},
      {"a graphics card",
       [](const StepShape& s) {
         return 3 + 6 * Touched(s.rows()) + 0.004 * s.rows() +
                1e-7 * static_cast<double>(s.attended) + 0.01 * s.logit_rows;
       }},
  };
}

// Serves 8 decodes beside one endless prompt (one after the other of 32 K tokens), cut to `growth`
// times what the decodes take.
class Serving {
 public:
  Serving(StepCostModel& model, std::function<double(const StepShape&)> ms)
      : model_(model), ms_(std::move(ms)) {}

  // The real time / that of the decodes alone.
  double Step(double growth, double noise = 1) {
    const StepShape decodes = Decodes(8, position_ += 1);
    const double target = growth * model_.PredictMs(decodes);
    rows = std::max(4, model_.LargestPrefill(decodes, prompt_, 2048, 1 << 30, target));
    const StepShape shape = With(decodes, prompt_, rows);
    prompt_ = prompt_ + rows > 32768 ? 0 : prompt_ + rows;
    const double real = ms_(shape);
    error = model_.PredictMs(shape) / real - 1;
    model_.Observe(shape, Ms(real * noise));
    return real / ms_(decodes);
  }

  void DecodeOnly(int steps) {
    for (int i = 0; i < steps; ++i) {
      const StepShape decodes = Decodes(8, position_ += 1);
      model_.Observe(decodes, Ms(ms_(decodes)));
    }
  }

  int rows = 0;
  double error = 0;

 private:
  StepCostModel& model_;
  const std::function<double(const StepShape&)> ms_;
  int64_t position_ = 500;
  int64_t prompt_ = 0;
};

TEST(StepCost, KnowsNothingAtFirst) {
  StepCostModel model(kSpread);
  EXPECT_EQ(model.PredictMs(Decodes(8, 100)), 0);
  // Small chunks, whatever the target.
  EXPECT_EQ(model.LargestPrefill(Decodes(8, 100), 0, 2048, 4096, 1e9),
            StepCostModel::kFirstRows - 8);
}

TEST(StepCost, ChunksDoubleWhileStepsStayBelowTheTarget) {
  StepCostModel model(kSpread);
  int rows = 0;
  for (int step = 0; step < 12; ++step) {
    const StepShape decodes = Decodes(2, 50);
    const int next = model.LargestPrefill(decodes, 0, 2048, 1 << 30, 1000);
    EXPECT_LE(next + 2, std::max(StepCostModel::kFirstRows, 2 * (rows + 2)));
    rows = next;
    model.Observe(With(decodes, 0, rows), Ms(10 + 0.1 * rows));
  }
  EXPECT_EQ(rows, 2048) << "10 + 204.8 ms is far below the target";
}

TEST(StepCost, ALargeStepAloneDoesNotOpenTheWayToThoseBetween) {
  StepCostModel model(kSpread);
  for (int i = 0; i < 20; ++i) {
    model.Observe(With({}, 0, 2048), Ms(1000));
    model.Observe(Decodes(8, 50), Ms(100));
  }
  int last = 8;
  for (int i = 0; i < 6; ++i) {
    const StepShape decodes = Decodes(8, 50);
    const int rows = model.LargestPrefill(decodes, 0, 2048, 1 << 30, 1e9) + 8;
    EXPECT_EQ(rows, 2 * last);
    model.Observe(With(decodes, 0, rows - 8), Ms(100 + rows));
    last = rows;
  }
}

TEST(StepCost, AContextFarBeyondAllSeenIsTriedWithFewRows) {
  StepCostModel model(kSpread);
  for (int rows = 8; rows <= 256; rows *= 2) model.Observe(With(Decodes(2, 50), 0, rows), Ms(rows));
  const int near = model.LargestPrefill(Decodes(2, 50), 0, 256, 1 << 30, 1e9);
  const int far = model.LargestPrefill(Decodes(2, 50), 100000, 256, 1 << 30, 1e9);
  EXPECT_EQ(near, 256);
  EXPECT_LT(far, 2);
}

TEST(StepCost, OnEveryMachineTheTargetIsKeptFromTheFirstStepsOnAndUsed) {
  for (const Machine& machine : Machines()) {
    SCOPED_TRACE(machine.name);
    StepCostModel model(kSpread);
    Serving serving(model, machine.ms);
    serving.DecodeOnly(20);
    double worst = 0, sum = 0;
    for (int step = 0; step < 400; ++step) {
      const double growth = serving.Step(1.8);
      worst = std::max(worst, growth);
      if (step < 60) continue;
      EXPECT_LT(std::abs(serving.error), 0.12) << "step " << step;
      sum += growth;
    }
    EXPECT_LT(worst, 2.0);
    EXPECT_GT(sum / 340, 1.6) << "the target is not used";
  }
}

TEST(StepCost, NoiseAndStallsDoNotMislead) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> scatter(0, 0.1);
  for (const Machine& machine : Machines()) {
    SCOPED_TRACE(machine.name);
    StepCostModel model(kSpread);
    Serving serving(model, machine.ms);
    serving.DecodeOnly(20);
    int above = 0;
    double sum = 0;
    for (int step = 0; step < 600; ++step) {
      // Every 50th stands still, for 100 times as long as it should take.
      const double noise = step % 50 == 49 ? 100 : std::exp(scatter(random));
      const double growth = serving.Step(1.8, noise);
      if (step < 60) continue;
      above += growth > 2.2;
      sum += growth;
    }
    EXPECT_LT(above, 27) << "of 540: more than 5 %";
    EXPECT_GT(sum / 540, 1.4);
  }
}

TEST(StepCost, FollowsAMachineThatBecomesSlower) {
  for (const Machine& machine : Machines()) {
    SCOPED_TRACE(machine.name);
    double slowness = 1;
    StepCostModel model(kSpread);
    Serving serving(model, [&](const StepShape& s) { return slowness * machine.ms(s); });
    serving.DecodeOnly(20);
    for (int step = 0; step < 200; ++step) serving.Step(1.8);
    slowness = 2;
    for (int step = 0; step < StepCostModel::kRatios; ++step) serving.Step(1.8);
    for (int step = 0; step < 300; ++step) {
      EXPECT_LT(serving.Step(1.8), 2.1) << "step " << step;
      EXPECT_LT(std::abs(serving.error), 0.25) << "step " << step;
    }
  }
}

TEST(StepCost, HoursOfDecodingDoNotUnlearnWhatAPromptCosts) {
  for (const Machine& machine : Machines()) {
    SCOPED_TRACE(machine.name);
    StepCostModel model(kSpread);
    Serving serving(model, machine.ms);
    serving.DecodeOnly(20);
    for (int step = 0; step < 200; ++step) serving.Step(1.8);
    serving.DecodeOnly(3000);
    for (int step = 0; step < 20; ++step) EXPECT_LT(serving.Step(1.8), 2.1) << "step " << step;
  }
}

TEST(StepCost, MoreWorkNeverTakesLessTime) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20; ++round) {
    StepCostModel model(round % 2 == 0 ? kSpread : ExpertSpread{});
    for (int i = 0; i < 100; ++i) {
      // Times that follow no rule at all.
      const StepShape shape = With(Decodes(1 + static_cast<int>(random() % 64), random() % 100000),
                                   random() % 100000, static_cast<int>(random() % 2048));
      model.Observe(shape, Ms(0.001 + static_cast<double>(random() % 10000000) / 1000));
      double last = 0;
      for (int rows = 1; rows <= 4096; rows *= 2) {
        const double ms = model.PredictMs(With(Decodes(1, 10), 0, rows));
        ASSERT_GE(ms, last);
        ASSERT_TRUE(std::isfinite(ms));
        last = ms;
      }
      const StepShape others = Decodes(3, 40);
      const double target = static_cast<double>(random() % 1000);
      const int rows = model.LargestPrefill(others, 7, 500, 500, target);
      ASSERT_GE(rows, 0);
      ASSERT_LE(rows, 500);
      if (rows > 0) {
        StepShape joined = With(others, 7, rows);
        joined.logit_rows += rows == 500;
        ASSERT_LE(model.PredictMs(joined), target);
      }
    }
  }
}

TEST(StepCost, TakesNoNonsense) {
  StepCostModel model(kSpread);
  model.Observe(StepShape{}, Ms(5));
  model.Observe(Decodes(2, 5), Duration{0});
  EXPECT_EQ(model.PredictMs(Decodes(2, 5)), 0);
}

}  // namespace
}  // namespace sheaf
