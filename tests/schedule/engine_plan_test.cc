// What the plan's rules come to in a running engine. The rules themselves: scheduler_test.cc.

#include <gtest/gtest.h>

#include <future>
#include <random>

#include "tests/schedule/engine_fixture.h"
#include "tests/schedule/transcript.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::EngineSettings;
using testing::RandomRequest;
using testing::RecordingSink;
using testing::RunningEngine;
using testing::TinyCheckpoint;
using testing::Transcript;

class EnginePlan : public ::testing::Test {
 protected:
  // Submits all before the first one's first token. on_first_ones_token: of its later tokens too,
  // with all sinks.
  using Sinks = std::vector<std::shared_ptr<RecordingSink>>;
  Sinks Together(RunningEngine& running, const std::vector<GenerationRequest>& requests,
                 std::function<void(const Sinks&, size_t)> on_first_ones_token = {}) {
    Sinks sinks;
    for (size_t i = 0; i < requests.size(); ++i) sinks.push_back(std::make_shared<RecordingSink>());
    std::promise<void> submitted;
    // Weak: it is in the first sink itself.
    std::vector<std::weak_ptr<RecordingSink>> weak(sinks.begin(), sinks.end());
    sinks[0]->on_token = [=, future = submitted.get_future().share()](size_t count) {
      EXPECT_EQ(future.wait_for(std::chrono::minutes(1)), std::future_status::ready);
      if (!on_first_ones_token) return;
      Sinks all;
      for (const auto& sink : weak) all.push_back(sink.lock());
      on_first_ones_token(all, count);
    };
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_TRUE(running.engine().Submit(requests[i], sinks[i]).ok());
    }
    submitted.set_value();
    return sinks;
  }

  std::string Alone(const GenerationRequest& request) {
    RunningEngine running(checkpoint_, {});
    const auto sink = running.Start(request);
    sink->WaitForEnd();
    return Transcript(*sink, true);
  }

  const uint64_t seed_ = testing::RandomSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const TinyCheckpoint checkpoint_{{.seed = seed_, .four_bit = true}};
};

TEST_F(EnginePlan, APromptBesideDecodesIsPlannedByTime) {
  const GenerationRequest stream = RandomRequest(random_, 8, 200);
  const GenerationRequest prompt = RandomRequest(random_, 250, 2);
  RunningEngine running(checkpoint_, {});
  const auto first = running.Start(stream);
  first->WaitForEnd();
  EXPECT_EQ(running.observer.bounded_by_time, 0) << "nothing but decodes";
  EXPECT_GT(running.observer.predicted, 100);
  const auto sinks = Together(running, {stream, prompt});
  for (const auto& sink : sinks) sink->WaitForEnd();
  EXPECT_GT(running.observer.bounded_by_time, 0);
  EXPECT_EQ(Transcript(*sinks[0], true), Transcript(*first, true));
  EXPECT_EQ(Transcript(*sinks[1], true), Alone(prompt));
}

TEST_F(EnginePlan, BlocksGoToTheBetterPriority) {
  GenerationRequest older = RandomRequest(random_, 100, 100);
  GenerationRequest better = RandomRequest(random_, 100, 100);
  older.priority = 10;
  better.priority = 1;
  EngineSettings settings;
  settings.num_blocks = 20;  // of the 26 that both need in the end
  RunningEngine running(checkpoint_, settings);
  bool better_ended_first = false;
  const auto sinks = Together(running, {older, better}, [&](const Sinks& all, size_t count) {
    if (count == 100) better_ended_first = all[1]->ended();
  });
  for (const auto& sink : sinks) sink->WaitForEnd();
  EXPECT_TRUE(better_ended_first);
  EXPECT_GE(running.observer.preempted, 1);
  EXPECT_EQ(Transcript(*sinks[0], true), Alone(older));
  EXPECT_EQ(Transcript(*sinks[1], true), Alone(better));
}

}  // namespace
}  // namespace sheaf
