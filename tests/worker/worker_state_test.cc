// A worker's membership, rule by rule, with time by hand.

#include "worker/session/worker_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/test_experts.h"

namespace sheaf {
namespace {

using Kind = WorkerAction::Kind;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr Duration kLease = seconds(3);

class WorkerStateTest : public testing::Test {
 protected:
  std::vector<Kind> Tick(WorkerState& state) {
    last_ = state.Tick(now_);
    std::vector<Kind> kinds;
    for (const WorkerAction& action : last_) kinds.push_back(action.kind);
    return kinds;
  }
  // To its next tick.
  std::vector<Kind> Later(WorkerState& state) {
    now_ = state.next_tick();
    return Tick(state);
  }
  void Join(WorkerState& state) {
    EXPECT_THAT(Tick(state), ElementsAre(Kind::kConnect));
    state.OnWelcome(WorkerId(4), kLease, now_);
    EXPECT_THAT(Tick(state), IsEmpty());
  }
  static HoldRequest Hold(uint64_t number, std::vector<LayerExpert> experts) {
    return {number, std::move(experts), 0, 0};
  }
  static WorkerStateOptions Options() {
    WorkerStateOptions options;
    options.coordinator = "host:1";
    return options;
  }

  TimePoint now_{seconds(1000)};
  WorkerState state_{Options(), 42, now_};
  std::vector<WorkerAction> last_;
};

TEST_F(WorkerStateTest, JoinsAtOnceAndBeatsThreeTimesALease) {
  Join(state_);
  EXPECT_TRUE(state_.member());
  EXPECT_EQ(state_.preferred_id(), 4);
  for (uint64_t beat = 1; beat <= 5; ++beat) {
    const TimePoint before = now_;
    ASSERT_THAT(Later(state_), ElementsAre(Kind::kSendBeat));
    EXPECT_EQ(now_ - before, kLease / 3);
    EXPECT_EQ(last_[0].sequence, beat);
    state_.OnBeatSeen(now_);
  }
}

TEST_F(WorkerStateTest, HoldsAreCarriedOutInOrderAndANumberThatDoesNotGrowEndsTheSession) {
  Join(state_);
  state_.OnHold(Hold(3, {Pair(1, 0)}), now_);
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kHold));
  EXPECT_EQ(last_[0].hold.experts.size(), 1u);
  state_.OnHold(Hold(3, {}), now_);
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kDisconnect));
  EXPECT_FALSE(state_.member());
}

TEST_F(WorkerStateTest, ALostCoordinatorIsTriedAgainWithABackOffThatGrowsToItsBound) {
  Join(state_);
  state_.OnSessionEnded(absl::UnavailableError("gone"), now_);
  EXPECT_THAT(Tick(state_), IsEmpty());
  Duration bound = milliseconds(100);
  for (int attempt = 0; attempt < 8; ++attempt) {
    const Duration wait = state_.next_tick() - now_;
    EXPECT_GE(wait, bound / 2);
    EXPECT_LE(wait, bound);
    ASSERT_THAT(Later(state_), ElementsAre(Kind::kConnect));
    state_.OnSessionEnded(absl::UnavailableError("gone"), now_);
    Tick(state_);
    bound = std::min<Duration>(bound * 2, seconds(2));
  }
  Later(state_);
  state_.OnWelcome(WorkerId(4), kLease, now_);
  state_.OnSessionEnded(absl::AbortedError("another stream"), now_);
  Tick(state_);
  EXPECT_LE(state_.next_tick() - now_, milliseconds(100)) << "a real session begins anew";
}

TEST_F(WorkerStateTest, WhatTryingAgainCannotHelpIsFinalAndSaysWhatToDo) {
  const std::pair<absl::Status, const char*> final_ones[] = {
      {absl::FailedPreconditionError("another model"), "start this worker with the pool's"},
      {absl::UnauthenticatedError("no token"), "give this worker the pool's token"},
      {absl::InvalidArgumentError("what?"), "is host:1 a coordinator"}};
  for (const auto& [status, advice] : final_ones) {
    WorkerState state(Options(), 1, now_);
    Tick(state);
    state.OnSessionEnded(status, now_);
    ASSERT_THAT(Tick(state), ElementsAre(Kind::kExit));
    EXPECT_EQ(last_[0].status.code(), status.code());
    EXPECT_THAT(std::string(last_[0].status.message()),
                testing::AllOf(HasSubstr(std::string(status.message())), HasSubstr(advice)));
  }
  for (const absl::Status& status :
       {absl::UnimplementedError("a proxy"), absl::UnavailableError("not yet"),
        absl::AbortedError("lost"), absl::ResourceExhaustedError("full"), absl::OkStatus()}) {
    WorkerState state(Options(), 1, now_);
    Tick(state);
    state.OnSessionEnded(status, now_);
    EXPECT_THAT(Tick(state), IsEmpty()) << status;
    EXPECT_LT(state.next_tick(), now_ + seconds(1));
  }
}

TEST_F(WorkerStateTest, ACoordinatorThatDoesNotAnswerTheHelloIsGivenUp) {
  Tick(state_);
  const TimePoint begin = now_;
  EXPECT_THAT(Later(state_), ElementsAre(Kind::kDisconnect));
  EXPECT_EQ(now_ - begin, seconds(10));
}

TEST_F(WorkerStateTest, ASilentCoordinatorIsGivenUpLate) {
  Join(state_);
  const TimePoint begin = now_;
  std::vector<Kind> kinds;
  do kinds = Later(state_);
  while (kinds == std::vector<Kind>{Kind::kSendBeat});
  EXPECT_THAT(kinds, ElementsAre(Kind::kDisconnect));
  EXPECT_EQ(now_ - begin, seconds(15));
}

TEST_F(WorkerStateTest, AStandstillOfThisProcessJudgesNobody) {
  Join(state_);
  Later(state_);
  now_ += std::chrono::hours(1);  // stopped; nothing could be heard
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kSendBeat));
  EXPECT_TRUE(state_.member());
  // The same while joining.
  WorkerState joining(Options(), 1, now_);
  Tick(joining);
  now_ += std::chrono::hours(1);
  EXPECT_THAT(Tick(joining), IsEmpty());
}

TEST_F(WorkerStateTest, WithoutCoordinatorAndLinksItGivesUpInTheEnd) {
  state_.OnLinks(1);
  TimePoint begin = now_;
  const auto fail_until_exit = [&](Duration most) {
    std::vector<Kind> kinds = Tick(state_);
    while (now_ - begin < most) {
      if (kinds == std::vector<Kind>{Kind::kConnect})
        state_.OnSessionEnded(absl::UnavailableError("refused"), now_);
      if (!kinds.empty() && kinds.back() == Kind::kExit) return true;
      kinds = Tick(state_);
      if (kinds.empty()) kinds = Later(state_);
    }
    return false;
  };
  EXPECT_FALSE(fail_until_exit(std::chrono::minutes(30))) << "it has routers to serve";
  state_.OnLinks(0);
  begin = now_;
  ASSERT_TRUE(fail_until_exit(std::chrono::minutes(11)));
  EXPECT_TRUE(absl::IsUnavailable(last_.back().status));
  EXPECT_THAT(std::string(last_.back().status.message()),
              HasSubstr("no coordinator at host:1: refused"));
}

TEST_F(WorkerStateTest, LeavesWhenTheCoordinatorWantsNothingAnyMoreAndAllIsSeen) {
  Join(state_);
  state_.OnHold(Hold(1, {Pair(1, 0)}), now_);
  Tick(state_);
  state_.OnHoldingsSettled(false);
  state_.OnLinks(2);
  state_.OnStop(now_);
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kSendLeaving));
  // Others are being loaded elsewhere: go on.
  now_ += milliseconds(500);
  EXPECT_THAT(Tick(state_), IsEmpty());
  state_.OnHold(Hold(2, {}), now_);
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kHold));
  EXPECT_THAT(Tick(state_), IsEmpty()) << "routers may still ask";
  state_.OnHoldingsSettled(true);
  EXPECT_THAT(Tick(state_), IsEmpty()) << "the last answers leave";
  EXPECT_THAT(Later(state_), ElementsAre(Kind::kDisconnect, Kind::kExit));
  EXPECT_TRUE(last_[1].status.ok());
}

TEST_F(WorkerStateTest, LeavesAfterItsPatienceWhenNobodyTakesOver) {
  Join(state_);
  state_.OnHold(Hold(1, {Pair(1, 0)}), now_);
  Tick(state_);
  state_.OnHoldingsSettled(false);
  state_.OnStop(now_);
  Tick(state_);
  const TimePoint begin = now_;
  std::vector<Kind> kinds;
  do {
    kinds = Later(state_);
    state_.OnBeatSeen(now_);
  } while (kinds == std::vector<Kind>{Kind::kSendBeat});
  EXPECT_EQ(now_ - begin, seconds(10));
  ASSERT_EQ(kinds.back(), Kind::kHold);
  EXPECT_TRUE(last_.back().hold.experts.empty());
  state_.OnHoldingsSettled(true);
  EXPECT_THAT(Tick(state_), testing::Contains(Kind::kExit));
}

TEST_F(WorkerStateTest, DismissedOrAloneItLetsGoAtOnce) {
  Join(state_);
  state_.OnHold(Hold(1, {Pair(1, 0)}), now_);
  Tick(state_);
  state_.OnHoldingsSettled(false);
  state_.OnStop(now_);
  Tick(state_);
  state_.OnDismissed("go", now_);
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kDisconnect, Kind::kHold));
  state_.OnHoldingsSettled(true);
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kExit));

  WorkerState alone(Options(), 1, now_);
  Tick(alone);
  alone.OnSessionEnded(absl::UnavailableError("refused"), now_);
  alone.OnStop(now_);
  EXPECT_THAT(Tick(alone), ElementsAre(Kind::kHold));
  alone.OnHoldingsSettled(true);
  EXPECT_THAT(Tick(alone), ElementsAre(Kind::kExit));
}

TEST_F(WorkerStateTest, ASecondStopEndsAtOnce) {
  Join(state_);
  state_.OnHold(Hold(1, {Pair(1, 0)}), now_);
  state_.OnStop(now_);
  Tick(state_);
  state_.OnStop(now_);
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kDisconnect, Kind::kExit));
  EXPECT_TRUE(last_[1].status.ok());
}

TEST_F(WorkerStateTest, DismissedWithoutAStopItJoinsAgain) {
  Join(state_);
  state_.OnDismissed("quarantine", now_);
  EXPECT_THAT(Tick(state_), ElementsAre(Kind::kDisconnect));
  EXPECT_THAT(Later(state_), ElementsAre(Kind::kConnect));
}

}  // namespace
}  // namespace sheaf
