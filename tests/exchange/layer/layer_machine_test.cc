// Each rule of a layer's state machine, by hand: who is asked, who is asked instead, and when it
// ends.

#include "exchange/layer/layer_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr WorkerId kA(0), kB(1), kC(2);
constexpr LayerId kLayer(1);
constexpr int kExperts = 8;

struct Seen {
  AskId id;
  WorkerId worker;
  AskCause cause;
  std::vector<int32_t> experts;
};

class LayerMachineTest : public testing::Test {
 protected:
  void Hold(WorkerId worker, std::vector<int> experts) {
    Holdings holdings(2, kExperts);
    for (const int expert : experts) holdings.Add(kLayer, ExpertId(expert));
    table_.SetHoldings(worker, holdings);
  }
  void Everybody(std::vector<WorkerId> workers) {
    for (const WorkerId worker : workers) Hold(worker, {0, 1, 2, 3, 4, 5, 6, 7});
  }
  // Known to be equally fast, 1 ms a unit, and asked just now, so that nobody is probed.
  void Warm(std::vector<WorkerId> workers) {
    for (const WorkerId worker : workers)
      for (int i = 0; i < 50; ++i) times_.Observe(worker, 1, milliseconds(1));
  }
  LayerMachine& Make(LayerMachineOptions options = {}) {
    machine_ = std::make_unique<LayerMachine>(table_, times_, options);
    return *machine_;
  }
  static LayerMachineOptions NoProbes() {
    LayerMachineOptions options;
    options.probe_every = std::chrono::hours(1000000);
    return options;
  }
  void Begin(std::vector<int32_t> ids, int top_k) {
    ids_ = std::move(ids);
    ASSERT_TRUE(machine_
                    ->Begin({kLayer, static_cast<int>(ids_.size()) / top_k, top_k, ids_.data()},
                            now_)
                    .ok());
  }
  // All new asks; sent.
  std::vector<Seen> Asks(bool send = true) {
    std::vector<Seen> asks;
    Ask ask;
    while (machine_->NextAsk(ask)) {
      Seen seen{ask.id, ask.worker, ask.cause, {}};
      for (const ExpertRun& run : ask.plan->experts) seen.experts.push_back(run.expert);
      asks.push_back(seen);
      if (send) machine_->Sent(ask.id, now_);
    }
    return asks;
  }
  std::vector<uint8_t> Answer(const Seen& ask) {
    const Arrival arrival = machine_->Combine(ask.worker, ask.id, now_);
    return {arrival.fresh.begin(), arrival.fresh.end()};
  }
  void TickTo(TimePoint when) {
    while (machine_->WakeAt() <= when && machine_->given_up().ok() && !machine_->done()) {
      now_ = std::max(now_, machine_->WakeAt());
      machine_->Tick(now_);
    }
    now_ = std::max(now_, when);
  }
  void Lose(WorkerId worker) {
    table_.Remove(worker);
    machine_->LinkLost(worker, "gone", now_);
  }

  ExpertTable table_{2, 1, kExperts};
  AnswerTimes times_{{.fixed_cost = Duration(0)}};
  std::unique_ptr<LayerMachine> machine_;
  std::vector<int32_t> ids_;
  TimePoint now_{seconds(100)};
};

TEST_F(LayerMachineTest, EveryExpertGoesToItsOnlyHolder) {
  Hold(kA, {0, 1, 2, 3});
  Hold(kB, {4, 5, 6, 7});
  Make();
  Begin({0, 5, 3, 4}, 2);
  const auto asks = Asks();
  ASSERT_EQ(asks.size(), 2u);
  EXPECT_EQ(asks[0].worker, kA);
  EXPECT_THAT(asks[0].experts, ElementsAre(0, 3));
  EXPECT_THAT(asks[1].experts, ElementsAre(4, 5));
  EXPECT_EQ(asks[0].cause, AskCause::kFirst);
  EXPECT_FALSE(machine_->done());
  EXPECT_THAT(Answer(asks[1]), ElementsAre(1, 1));
  EXPECT_FALSE(machine_->done());
  EXPECT_THAT(Answer(asks[0]), ElementsAre(1, 1));
  EXPECT_TRUE(machine_->done());
}

TEST_F(LayerMachineTest, ReplicasBalanceByWork) {
  Everybody({kA, kB});
  Warm({kA, kB});
  Make(NoProbes());
  // Expert 0 has 24 pairs (work 4), the others one each (1.125): 4 of 4.5 and 4.
  std::vector<int32_t> ids;
  for (int token = 0; token < 24; ++token) ids.push_back(0);
  ids.insert(ids.end(), {1, 2, 3});
  Begin(ids, 1);
  const auto asks = Asks();
  ASSERT_EQ(asks.size(), 2u);
  EXPECT_THAT(asks[0].experts, ElementsAre(0));
  EXPECT_THAT(asks[1].experts, ElementsAre(1, 2, 3));
}

TEST_F(LayerMachineTest, ASlowWorkerGetsLess) {
  Everybody({kA, kB});
  for (int i = 0; i < 50; ++i) {
    times_.Observe(kA, 1, milliseconds(10));
    times_.Observe(kB, 1, milliseconds(1));
  }
  Make(NoProbes());
  Begin({0, 1, 2, 3, 4, 5, 6, 7}, 8);
  const auto asks = Asks();
  ASSERT_EQ(asks.size(), 1u);
  EXPECT_EQ(asks[0].worker, kB);
}

TEST_F(LayerMachineTest, ALostLinksPairsGoToAnotherHolderAtOnce) {
  Everybody({kA, kB});
  Warm({kA, kB});
  Make(NoProbes());
  Begin({0, 1, 2, 3}, 4);
  const auto first = Asks();
  ASSERT_EQ(first.size(), 2u);
  Lose(kA);
  const auto again = Asks();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].worker, kB);
  EXPECT_EQ(again[0].cause, AskCause::kLinkLost);
  EXPECT_EQ(again[0].experts, first[0].experts);
  Answer(again[0]);
  Answer(first[1]);
  EXPECT_TRUE(machine_->done());
  EXPECT_EQ(machine_->TakeStatistics().pairs[size_t(AskCause::kLinkLost)], 2);
}

TEST_F(LayerMachineTest, NotHeldAsksOthersForThatAndTheSameAgainForTheRest) {
  Hold(kA, {0, 1});
  Hold(kB, {1, 2});
  Warm({kA, kB});
  Make(NoProbes());
  Hold(kB, {2});
  Begin({0, 1}, 2);
  const auto asks = Asks();
  Hold(kB, {1, 2});
  machine_->TableChanged(kB, now_);
  ASSERT_EQ(asks.size(), 1u);
  const std::vector<int32_t> missing = {1};
  machine_->NotHeld(kA, asks[0].id, missing, now_);
  const auto again = Asks();
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0].worker, kA);
  EXPECT_THAT(again[0].experts, ElementsAre(0));
  EXPECT_EQ(again[1].worker, kB);
  EXPECT_THAT(again[1].experts, ElementsAre(1));
  EXPECT_EQ(again[1].cause, AskCause::kNotHeld);
}

TEST_F(LayerMachineTest, NotHeldByTheOnlyHolderWaitsForItsAnnouncement) {
  Hold(kA, {0});
  Make();
  Begin({0}, 1);
  const auto asks = Asks();
  machine_->NotHeld(kA, asks[0].id, std::vector<int32_t>{0}, now_);
  EXPECT_THAT(Asks(), IsEmpty()) << "the table says that A holds it, but A said no";
  EXPECT_THAT(machine_->Orphans(), ElementsAre(ExpertId(0)));
  machine_->TableChanged(kA, now_);
  EXPECT_EQ(Asks().size(), 1u);
}

TEST_F(LayerMachineTest, LateIsHedgedAndTheFirstAnswerWins) {
  Everybody({kA, kB});
  Warm({kA, kB});
  Make(NoProbes());
  Begin({0}, 1);
  const auto first = Asks();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(machine_->WakeAt(), now_ + milliseconds(25));
  now_ += milliseconds(24);
  machine_->Tick(now_);
  EXPECT_THAT(Asks(), IsEmpty());
  now_ += milliseconds(1);
  machine_->Tick(now_);
  const auto hedge = Asks();
  ASSERT_EQ(hedge.size(), 1u);
  EXPECT_NE(hedge[0].worker, first[0].worker);
  EXPECT_EQ(hedge[0].cause, AskCause::kLate);

  EXPECT_THAT(Answer(hedge[0]), ElementsAre(1));
  EXPECT_TRUE(machine_->done());
  machine_->End(now_);
  EXPECT_EQ(machine_->owed_asks(first[0].worker), 1);
  // The next layer: the late answer comes, is recognised and dropped.
  Begin({1}, 1);
  EXPECT_NE(Asks()[0].worker, first[0].worker) << "it still owes";
  now_ += milliseconds(100);
  EXPECT_EQ(machine_->Combine(first[0].worker, first[0].id, now_).plan, nullptr);
  EXPECT_EQ(machine_->owed_asks(first[0].worker), 0);
  const LayerStatistics statistics = machine_->TakeStatistics();
  EXPECT_EQ(statistics.hedges_won, 1);
  EXPECT_EQ(statistics.hedges_lost, 0);
  EXPECT_EQ(statistics.late_answers, 1);
}

TEST_F(LayerMachineTest, TheLateOnesAnswerStillCountsIfItIsFirst) {
  Everybody({kA, kB});
  Warm({kA, kB});
  Make(NoProbes());
  Begin({0}, 1);
  const auto first = Asks();
  now_ += milliseconds(25);
  machine_->Tick(now_);
  const auto hedge = Asks();
  ASSERT_EQ(hedge.size(), 1u);
  EXPECT_THAT(Answer(first[0]), ElementsAre(1));
  EXPECT_TRUE(machine_->done());
  EXPECT_THAT(Answer(hedge[0]), ElementsAre(0)) << "for comparison, not for the sum";
  EXPECT_EQ(machine_->TakeStatistics().hedges_lost, 1);
}

TEST_F(LayerMachineTest, LateWithoutAnotherHolderKeepsWaiting) {
  Hold(kA, {0});
  Warm({kA});
  Make();
  Begin({0}, 1);
  const auto asks = Asks();
  now_ += milliseconds(25);
  machine_->Tick(now_);
  EXPECT_THAT(Asks(), IsEmpty());
  EXPECT_TRUE(machine_->given_up().ok());
  // Somebody else announces it: now it is hedged.
  Hold(kB, {0});
  machine_->TableChanged(kB, now_);
  const auto hedge = Asks();
  ASSERT_EQ(hedge.size(), 1u);
  EXPECT_EQ(hedge[0].worker, kB);
}

TEST_F(LayerMachineTest, WhoOwesTooMuchIsAskedOnlyForWhatNobodyElseHolds) {
  Hold(kA, {0, 1});
  Hold(kB, {0});
  Warm({kA, kB});
  LayerMachineOptions options = NoProbes();
  options.max_owed_asks = 1;
  Make(options);
  for (int layer = 0; layer < 2; ++layer) {
    Begin({1}, 1);
    ASSERT_EQ(Asks().size(), 1u);
    machine_->End(now_);
  }
  ASSERT_EQ(machine_->owed_asks(kA), 2);
  for (int i = 0; i < 60; ++i) times_.Observe(kB, 1, seconds(100));  // whatever the balance says
  Begin({0, 1}, 2);
  const auto asks = Asks();
  ASSERT_EQ(asks.size(), 2u);
  EXPECT_THAT(asks[0].experts, ElementsAre(1));
  EXPECT_THAT(asks[1].experts, ElementsAre(0));
  EXPECT_EQ(asks[1].worker, kB);
  Lose(kA);
  EXPECT_EQ(machine_->owed_asks(kA), 0) << "a lost link owes nothing";
}

TEST_F(LayerMachineTest, AFullLinkIsLeftOutAndTriedAgain) {
  Everybody({kA, kB});
  Warm({kA, kB});
  Make(NoProbes());
  Begin({0}, 1);
  const auto first = Asks(false);
  machine_->NotSent(first[0].id, now_);
  const auto other = Asks(false);
  ASSERT_EQ(other.size(), 1u);
  EXPECT_NE(other[0].worker, first[0].worker);
  machine_->NotSent(other[0].id, now_);
  EXPECT_THAT(Asks(false), IsEmpty());
  EXPECT_THAT(machine_->Orphans(), IsEmpty()) << "both hold it";
  const TimePoint wake = machine_->WakeAt();
  EXPECT_EQ(wake, now_ + milliseconds(1));
  now_ = wake;
  machine_->Tick(now_);
  EXPECT_EQ(Asks().size(), 1u);
}

TEST_F(LayerMachineTest, WithoutAHolderItIsGivenUpAfterAShortPatience) {
  Hold(kA, {0});
  Make();
  Begin({0, 3}, 2);
  const auto asks = Asks();
  ASSERT_EQ(asks.size(), 1u);
  Answer(asks[0]);
  EXPECT_THAT(machine_->Orphans(), ElementsAre(ExpertId(3)));
  EXPECT_EQ(machine_->WakeAt(), now_ + milliseconds(100));
  now_ += milliseconds(99);
  machine_->Tick(now_);
  EXPECT_TRUE(machine_->given_up().ok());
  now_ += milliseconds(1);
  machine_->Tick(now_);
  EXPECT_EQ(machine_->given_up().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(machine_->given_up().message()),
              HasSubstr("layer 1 is given up: no worker holds expert 3"));
}

TEST_F(LayerMachineTest, AHolderThatComesInTimeSavesTheLayer) {
  Hold(kA, {0});
  Make();
  Begin({0}, 1);
  Asks();
  Lose(kA);
  EXPECT_THAT(Asks(), IsEmpty());
  now_ += milliseconds(60);
  Hold(kA, {0});  // it is linked again
  machine_->TableChanged(kA, now_);
  const auto again = Asks();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].worker, kA);
  Answer(again[0]);
  EXPECT_TRUE(machine_->done());
}

TEST_F(LayerMachineTest, WithoutProgressItIsGivenUpAtTheBound) {
  Hold(kA, {0, 1});
  Warm({kA});
  LayerMachineOptions options;
  options.give_up_per_token = Duration(0);
  Make(options);
  Begin({0}, 1);
  Asks();
  TickTo(now_ + milliseconds(4999));
  EXPECT_TRUE(machine_->given_up().ok());
  TickTo(now_ + milliseconds(1));
  EXPECT_EQ(machine_->given_up().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(machine_->given_up().message()),
              HasSubstr("no answer for 5000 ms to expert 0 (asked: worker 0)"));
  machine_->End(now_);
  EXPECT_EQ(machine_->owed_asks(kA), 1);
}

TEST_F(LayerMachineTest, ARouterThatWasStoppedBlamesNobody) {
  Hold(kA, {0});
  Warm({kA});
  Make();
  Begin({0}, 1);
  const auto asks = Asks();
  now_ += seconds(10);  // SIGSTOP; nobody ticked
  machine_->Tick(now_);
  EXPECT_TRUE(machine_->given_up().ok());
  EXPECT_THAT(Answer(asks[0]), ElementsAre(1));
}

TEST_F(LayerMachineTest, AnErrorAsksAnotherAndErrorsOfAllEndTheLayer) {
  Everybody({kA, kB});
  Warm({kA, kB});
  Make(NoProbes());
  Begin({0}, 1);
  const auto first = Asks();
  machine_->Error(first[0].worker, first[0].id, "no memory", now_);
  const auto second = Asks();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].cause, AskCause::kError);
  EXPECT_NE(second[0].worker, first[0].worker);
  machine_->Error(second[0].worker, second[0].id, "no memory here either", now_);
  EXPECT_EQ(machine_->given_up().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(machine_->given_up().message()), HasSubstr("no memory here either"));
  EXPECT_THAT(std::string(machine_->given_up().message()), HasSubstr("worker 0: no memory"));
}

TEST_F(LayerMachineTest, WhoWasLeftOutForLongIsProbed) {
  Everybody({kA, kB});
  for (int i = 0; i < 50; ++i) {
    times_.Observe(kA, 1, milliseconds(50));
    times_.Observe(kB, 1, milliseconds(1));
  }
  Make();
  int probes = 0;
  const TimePoint start = now_;
  while (now_ < start + seconds(1)) {
    Begin({0, 1}, 2);
    for (const Seen& ask : Asks()) {
      if (ask.cause == AskCause::kProbe) {
        EXPECT_EQ(ask.worker, kA);
        EXPECT_EQ(ask.experts.size(), 1u);
        ++probes;
      }
      now_ += std::chrono::microseconds(500);
      Answer(ask);
    }
    EXPECT_TRUE(machine_->done());
    machine_->End(now_);
    now_ += milliseconds(1);
    if (times_.SecondsPerUnit(kA) < 0.003) break;
  }
  EXPECT_GE(probes, 2);
  EXPECT_LE(probes, 5) << "at most one in 250 ms";
}

TEST_F(LayerMachineTest, NobodyWaitsForAProbe) {
  Everybody({kA, kB});
  Warm({kA});
  for (int i = 0; i < 50; ++i) times_.Observe(kB, 1, milliseconds(50));
  Make();
  Begin({0}, 1);
  const auto asks = Asks();
  ASSERT_EQ(asks.size(), 2u);
  ASSERT_EQ(asks[1].cause, AskCause::kProbe);
  Answer(asks[0]);
  EXPECT_TRUE(machine_->done());
  // And it does not hold up what its first one lost.
  machine_->End(now_);
  machine_->Combine(kB, asks[1].id, now_);
  now_ += milliseconds(300);
  Begin({0}, 1);
  const auto next = Asks();
  ASSERT_EQ(next.size(), 2u);
  Hold(kC, {0});
  machine_->TableChanged(kC, now_);
  Lose(kA);
  const auto again = Asks();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].worker, kC);
}

TEST_F(LayerMachineTest, VerifiedExpertsAreAskedTwiceAndWaitedFor) {
  Everybody({kA, kB, kC});
  Warm({kA, kB, kC});
  LayerMachineOptions options = NoProbes();
  options.verify_share = 1;
  Make(options);
  Begin({0}, 1);
  const auto asks = Asks();
  ASSERT_EQ(asks.size(), 2u);
  EXPECT_EQ(asks[1].cause, AskCause::kVerify);
  EXPECT_NE(asks[0].worker, asks[1].worker);
  EXPECT_THAT(Answer(asks[0]), ElementsAre(1));
  EXPECT_FALSE(machine_->done());
  EXPECT_THAT(Answer(asks[1]), ElementsAre(0));
  EXPECT_TRUE(machine_->done());
  // They differed: a third one.
  EXPECT_TRUE(machine_->AskAnother(ExpertId(0), now_));
  EXPECT_FALSE(machine_->done());
  const auto third = Asks();
  ASSERT_EQ(third.size(), 1u);
  Answer(third[0]);
  EXPECT_TRUE(machine_->done());
  EXPECT_FALSE(machine_->AskAnother(ExpertId(0), now_)) << "nobody is left";
}

TEST_F(LayerMachineTest, ALateSecondAnswerIsNotWaitedFor) {
  Everybody({kA, kB});
  Warm({kA, kB});
  LayerMachineOptions options = NoProbes();
  options.verify_share = 1;
  Make(options);
  Begin({0}, 1);
  const auto asks = Asks();
  Answer(asks[0]);
  EXPECT_FALSE(machine_->done());
  TickTo(now_ + milliseconds(25));
  EXPECT_TRUE(machine_->done());
  Lose(asks[1].worker);
  EXPECT_TRUE(machine_->done());
}

TEST_F(LayerMachineTest, ASecondAnswerOfASlowWorkerIsNotWaitedForAsLongAsItsPastAllows) {
  Hold(kA, {0, 1});
  Hold(kB, {0});
  // A second a unit: late after more than two.
  for (int i = 0; i < 50; ++i) times_.Observe(kB, 1, seconds(1));
  for (int i = 0; i < 50; ++i) times_.Observe(kA, 1, milliseconds(300));
  LayerMachineOptions options = NoProbes();
  options.verify_share = 1;
  options.verify_patience = milliseconds(25);
  Make(options);
  Begin({0}, 1);
  const auto asks = Asks();
  ASSERT_EQ(asks.size(), 2u);
  ASSERT_EQ(asks[0].worker, kA);
  ASSERT_GE(times_.LateAfter(kB, 1), seconds(2));
  now_ += milliseconds(100);
  Answer(asks[0]);
  TickTo(now_ + milliseconds(49));
  EXPECT_FALSE(machine_->done()) << "half as long again as the first answer took";
  TickTo(now_ + milliseconds(1));
  EXPECT_TRUE(machine_->done());
}

TEST_F(LayerMachineTest, WhatIsLateOfAnUnknownWorkerIsToldByTheOthers) {
  Hold(kA, {0});
  Hold(kB, {1});
  Hold(kC, {0, 1});
  Make(NoProbes());
  Begin({0, 1}, 2);
  const auto asks = Asks();
  ASSERT_GE(asks.size(), 2u);
  // Nobody has answered ever: half a second. One does, within a millisecond.
  now_ += milliseconds(1);
  Answer(asks[0]);
  const TimePoint answered = now_;
  TickTo(now_ + milliseconds(30));
  EXPECT_FALSE(Asks().empty()) << "another holder is asked";
  EXPECT_LT(now_ - answered, milliseconds(100));
}

TEST_F(LayerMachineTest, AWorkerThatIsLateTwiceIsAskedOnlyForWhatNobodyBetterHolds) {
  Hold(kA, {0, 1});
  Hold(kB, {0});
  Warm({kA, kB});
  for (int i = 0; i < 200; ++i) times_.Observe(kB, 1, milliseconds(2));  // A is preferred
  Make(NoProbes());
  const auto late_layer = [&] {
    Begin({0}, 1);
    const auto asks = Asks();
    ASSERT_EQ(asks.size(), 1u);
    ASSERT_EQ(asks[0].worker, kA);
    TickTo(now_ + milliseconds(100));  // asked from B, who answers; then A does too
    const auto again = Asks();
    ASSERT_EQ(again.size(), 1u);
    ASSERT_EQ(again[0].worker, kB);
    Answer(again[0]);
    machine_->End(now_);
    for (int i = 0; i < 200; ++i) times_.Observe(kA, 1, milliseconds(1));
    machine_->Combine(kA, asks[0].id, now_);
  };
  late_layer();
  late_layer();  // the first time was chance
  Begin({0, 1}, 2);
  for (const Seen& ask : Asks()) {
    EXPECT_THAT(ask.experts, ElementsAre(ask.worker == kA ? 1 : 0));
    Answer(ask);
  }
  EXPECT_TRUE(machine_->done());
  machine_->End(now_);
  now_ += seconds(1);  // forgiven
  for (int i = 0; i < 200; ++i) times_.Observe(kB, 1, milliseconds(2));
  for (int i = 0; i < 200; ++i) times_.Observe(kA, 1, milliseconds(1));
  Begin({0}, 1);
  EXPECT_EQ(Asks().at(0).worker, kA);
}

TEST_F(LayerMachineTest, RefusesExpertsOutsideTheLayer) {
  Everybody({kA});
  Make();
  const int32_t ids[] = {0, kExperts};
  const absl::Status status = machine_->Begin({kLayer, 1, 2, ids}, now_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  Begin({0}, 1);
  EXPECT_EQ(Asks().size(), 1u) << "nothing is left of the refused one";
}

}  // namespace
}  // namespace sheaf
