// When a link is connected, tried again and given up; time by hand.

#include "exchange/pool/link_life.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using Action = LinkLife::Action;
using State = LinkLife::State;

class LinkLifeTest : public testing::Test {
 protected:
  // Goes on to the moment when it acts next.
  Action Next() {
    now_ = std::max(now_, life_.WakeAt());
    return life_.Due(now_);
  }
  // How long it backs off after `failure`.
  template <typename Failure>
  Duration BackOffAfter(const Failure& failure) {
    failure();
    const TimePoint before = now_;
    EXPECT_EQ(life_.state(), State::kBackOff);
    EXPECT_EQ(Next(), Action::kConnect);
    return now_ - before;
  }
  Duration BackOffAfterNobodyThere() {
    return BackOffAfter(
        [&] { life_.ConnectFailed(absl::UnavailableError("nobody there"), now_); });
  }
  static void ExpectAbout(Duration got, Duration wanted) {
    EXPECT_GE(got, wanted);
    EXPECT_LE(got, wanted * 3 / 2);
  }
  LinkLife::OwedAnswer Owed(uint64_t sequence, Duration patience) {
    LinkLife::OwedAnswer owed;
    owed.dispatch.sequence = sequence;
    owed.ask = 100 + sequence;
    owed.asked_at = now_;
    owed.silent_at = now_ + patience;
    return owed;
  }
  void GoLive() {
    if (life_.state() != State::kConnecting) {
      ASSERT_EQ(Next(), Action::kConnect);
    }
    life_.Connected(now_);
    life_.Greeted(now_);
    ASSERT_EQ(life_.state(), State::kLive);
  }

  LinkLife life_{{}, 7};
  TimePoint now_{seconds(50)};
};

TEST_F(LinkLifeTest, ConnectsAtOnceWhenWantedAndNotBefore) {
  EXPECT_EQ(life_.WakeAt(), TimePoint::max());
  EXPECT_EQ(life_.Due(now_ + seconds(100)), Action::kNone);
  life_.SetWanted(true, now_);
  EXPECT_EQ(life_.Due(now_), Action::kConnect);
  EXPECT_EQ(life_.state(), State::kConnecting);
  EXPECT_EQ(life_.Due(now_ + seconds(100)), Action::kNone) << "one attempt at a time";
}

TEST_F(LinkLifeTest, BackOffDoublesToItsBound) {
  life_.SetWanted(true, now_);
  ASSERT_EQ(Next(), Action::kConnect);
  Duration wanted = milliseconds(20);
  for (int i = 0; i < 12; ++i) {
    ExpectAbout(BackOffAfterNobodyThere(), wanted);
    wanted = std::min<Duration>(2 * wanted, seconds(2));
  }
  EXPECT_EQ(wanted, seconds(2));
}

TEST_F(LinkLifeTest, WhoWillNeverTakeUsIsAskedSeldom) {
  life_.SetWanted(true, now_);
  ASSERT_EQ(Next(), Action::kConnect);
  ExpectAbout(BackOffAfter(
                  [&] { life_.ConnectFailed(absl::FailedPreconditionError("other model"), now_); }),
              seconds(10));
}

TEST_F(LinkLifeTest, ALinkThatAnsweredIsReconnectedSoonOneThatNeverDidIsNot) {
  life_.SetWanted(true, now_);
  for (const Duration wanted : {milliseconds(20), milliseconds(40), milliseconds(80)}) {
    GoLive();
    ExpectAbout(BackOffAfter([&] { life_.Broken(now_); }), wanted);
  }
  GoLive();
  life_.Asked(Owed(1, seconds(2)));
  EXPECT_EQ(life_.Answered(1)->ask, 101u);
  ExpectAbout(BackOffAfter([&] { life_.Broken(now_); }), milliseconds(20));
}

TEST_F(LinkLifeTest, WhoAnnouncesNothingIsGivenUp) {
  life_.SetWanted(true, now_);
  ASSERT_EQ(Next(), Action::kConnect);
  life_.Connected(now_);
  const TimePoint connected = now_;
  EXPECT_EQ(life_.Due(now_ + milliseconds(1999)), Action::kNone);
  EXPECT_EQ(Next(), Action::kBreak);
  EXPECT_EQ(now_, connected + seconds(2));
  EXPECT_THAT(std::string(life_.Why(now_).message()), HasSubstr("announced nothing"));
}

TEST_F(LinkLifeTest, SilenceEndsItUnlessTheRouterItselfSlept) {
  life_.SetWanted(true, now_);
  GoLive();
  life_.Asked(Owed(1, seconds(2)));
  life_.Asked(Owed(2, seconds(9)));
  EXPECT_EQ(life_.Due(now_ + milliseconds(1999)), Action::kNone);
  EXPECT_TRUE(life_.Answered(1).has_value());
  EXPECT_FALSE(life_.Answered(1).has_value()) << "only once";
  EXPECT_EQ(life_.Due(now_ + seconds(2)), Action::kNone);
  life_.Forgive(seconds(30));
  EXPECT_EQ(life_.Due(now_ + seconds(38)), Action::kNone);
  EXPECT_EQ(Next(), Action::kBreak);
  EXPECT_THAT(std::string(life_.Why(now_).message()), HasSubstr("no answer to"));
  EXPECT_THAT(std::string(life_.Why(now_).message()), HasSubstr("for 39000 ms"));
  life_.Broken(now_);
  EXPECT_TRUE(life_.owed().empty());
}

TEST_F(LinkLifeTest, WhoIsNotListedAnyMoreKeepsItsLinkAndIsNotReconnected) {
  life_.SetWanted(true, now_);
  GoLive();
  life_.SetWanted(false, now_);
  EXPECT_EQ(life_.state(), State::kLive);
  life_.Broken(now_);
  EXPECT_EQ(life_.state(), State::kIdle);
  EXPECT_EQ(life_.WakeAt(), TimePoint::max());
}

TEST_F(LinkLifeTest, AnotherProcessIsConnectedAtOnce) {
  life_.SetWanted(true, now_);
  ASSERT_EQ(Next(), Action::kConnect);
  for (int i = 0; i < 10; ++i) BackOffAfterNobodyThere();
  life_.StartAfresh(now_);
  EXPECT_EQ(life_.Due(now_), Action::kConnect);
  ExpectAbout(BackOffAfterNobodyThere(), milliseconds(20));
}

}  // namespace
}  // namespace sheaf
