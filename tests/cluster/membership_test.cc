// Slots, epochs and leases: who may serve when. Time is moved by hand.

#include "router/cluster/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class MembershipTest : public testing::Test {
 protected:
  WorkerId Join(const std::string& instance, int preferred = -1) {
    const absl::StatusOr<WorkerId> slot = members_.Join(
        {.instance = instance, .pid = 1, .host = "h", .metrics_address = ""}, preferred);
    EXPECT_TRUE(slot.ok()) << slot.status();
    return *slot;
  }
  void OpenEpoch(uint64_t epoch) {
    ASSERT_EQ(members_.Next(), NextStep::kPrepare);
    ASSERT_EQ(members_.epoch(), Epoch(epoch));
    for (int i = 0; i < 2; ++i) {
      ASSERT_EQ(members_.Next(), NextStep::kNothing);
      ASSERT_TRUE(members_.Prepared(WorkerId(i), Epoch(epoch), "address").ok());
    }
    ASSERT_EQ(members_.Next(), NextStep::kOpen);
    for (int i = 0; i < 2; ++i) {
      ASSERT_EQ(members_.Next(), NextStep::kNothing);
      ASSERT_TRUE(members_.Opened(WorkerId(i), Epoch(epoch)).ok());
    }
    ASSERT_EQ(members_.Next(), NextStep::kConnect);
    ASSERT_EQ(members_.Next(), NextStep::kNothing) << "told once";
    members_.Connected();
    ASSERT_EQ(members_.phase(), EpochPhase::kOpen);
  }
  void BothReady() {
    Join("a");
    Join("b");
    EXPECT_TRUE(members_.SliceReady(WorkerId(0), 10).ok());
    EXPECT_EQ(members_.Next(), NextStep::kNothing);
    EXPECT_TRUE(members_.SliceReady(WorkerId(1), 10).ok());
  }

  ManualClock clock_;
  Membership members_{2, milliseconds(1000), milliseconds(5000), clock_};
};

TEST_F(MembershipTest, SlotsAreGivenInOrderAndByWish) {
  EXPECT_EQ(Join("a", 1), WorkerId(1));
  EXPECT_EQ(Join("b", 1), WorkerId(0)) << "the wish is taken: any vacant one";
  EXPECT_EQ(members_.Join({.instance = "c", .pid = 0, .host = "", .metrics_address = ""}, -1)
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
  members_.Lose(WorkerId(1), "gone");
  EXPECT_EQ(members_.Join({.instance = "b", .pid = 0, .host = "", .metrics_address = ""}, -1)
                .status()
                .code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Join("c"), WorkerId(1));
}

TEST_F(MembershipTest, AnEpochOpensWhenAllAreReadyAndClosesAtTheFirstLoss) {
  EXPECT_THAT(members_.Describe(), HasSubstr("worker 0 has not joined; worker 1 has not joined"));
  BothReady();
  ASSERT_NO_FATAL_FAILURE(OpenEpoch(1));
  EXPECT_EQ(members_.Describe(), "serving, epoch 1");
  members_.Lose(WorkerId(1), "session ended");
  EXPECT_EQ(members_.phase(), EpochPhase::kWaiting);
  EXPECT_EQ(members_.Next(), NextStep::kNothing);
  EXPECT_THAT(members_.Describe(),
              HasSubstr("worker 1 has not joined again (lost: session ended)"));
  EXPECT_EQ(Join("c"), WorkerId(1));
  members_.Progress(WorkerId(1), 25, 100);
  EXPECT_THAT(members_.Describe(), HasSubstr("worker 1 is loading (25 %)"));
  ASSERT_TRUE(members_.SliceReady(WorkerId(1), 10).ok());
  ASSERT_NO_FATAL_FAILURE(OpenEpoch(2));
}

TEST_F(MembershipTest, LateWordsOfAnOldEpochDoNothing) {
  BothReady();
  ASSERT_EQ(members_.Next(), NextStep::kPrepare);
  members_.CloseEpoch();
  ASSERT_EQ(members_.Next(), NextStep::kPrepare);
  ASSERT_EQ(members_.epoch(), Epoch(2));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(members_.Prepared(WorkerId(i), Epoch(1), "old").ok());
  EXPECT_EQ(members_.Next(), NextStep::kNothing);
  EXPECT_FALSE(members_.Prepared(WorkerId(0), Epoch(3), "future").ok());
  EXPECT_FALSE(members_.Opened(WorkerId(0), Epoch(2)).ok()) << "not asked yet";
  EXPECT_FALSE(members_.SliceReady(WorkerId(0), 1).ok()) << "twice";
}

TEST_F(MembershipTest, ALeaseThatIsNotRenewedExpires) {
  Join("a");
  Join("b");
  clock_.Advance(milliseconds(900));
  members_.Renew(WorkerId(0));
  EXPECT_TRUE(members_.Expired().empty());
  clock_.Advance(milliseconds(200));
  const std::vector<ExpiredMember> expired = members_.Expired();
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].worker, WorkerId(1));
  EXPECT_EQ(expired[0].reason, "no sign of life for 1000 ms");
  members_.Lose(WorkerId(1), expired[0].reason);
  EXPECT_TRUE(members_.Expired().empty());
}

TEST_F(MembershipTest, WhoHoldsUpAnEpochForTooLongExpires) {
  BothReady();
  ASSERT_EQ(members_.Next(), NextStep::kPrepare);
  ASSERT_TRUE(members_.Prepared(WorkerId(1), Epoch(1), "address").ok());
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(members_.Expired().empty());
    clock_.Advance(milliseconds(900));
    members_.Renew(WorkerId(0));
    members_.Renew(WorkerId(1));
  }
  const std::vector<ExpiredMember> expired = members_.Expired();
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].worker, WorkerId(0));
  EXPECT_THAT(expired[0].reason, HasSubstr("did not open epoch 1"));
}

// Whatever happens in whatever order: epochs grow, and none is open while a slot is not ready.
TEST_F(MembershipTest, InvariantsHoldInRandomOrder) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  uint64_t last_epoch = 0, opened = 0;
  int instance = 0;
  for (int i = 0; i < 20000; ++i) {
    const WorkerId worker(static_cast<int32_t>(random() % 2));
    const bool vacant = members_.slots()[size_t(worker.value())].state == SlotState::kVacant;
    switch (random() % 8) {
      case 0:
        members_
            .Join({.instance = std::to_string(instance++),
                   .pid = 0,
                   .host = "",
                   .metrics_address = ""},
                  -1)
            .IgnoreError();
        break;
      case 1:
        if (!vacant) members_.SliceReady(worker, 1).IgnoreError();
        break;
      case 2:
        if (!vacant) members_.Prepared(worker, members_.epoch(), "a").IgnoreError();
        break;
      case 3:
        if (!vacant) members_.Opened(worker, members_.epoch()).IgnoreError();
        break;
      case 4:
        if (random() % 8 == 0) members_.Lose(worker, "x");
        break;
      case 5:
        if (random() % 16 == 0) members_.CloseEpoch();
        break;
      default: {
        const NextStep step = members_.Next();
        if (step == NextStep::kPrepare) {
          ASSERT_GT(members_.epoch().value(), last_epoch);
          last_epoch = members_.epoch().value();
        }
        if (step == NextStep::kConnect) {
          members_.Connected();
          ++opened;
        }
      }
    }
    if (members_.phase() == EpochPhase::kWaiting) continue;
    for (const Slot& slot : members_.slots()) ASSERT_EQ(slot.state, SlotState::kReady);
    if (members_.phase() == EpochPhase::kOpen) {
      for (const Slot& slot : members_.slots()) ASSERT_TRUE(slot.opened);
    }
  }
  EXPECT_GT(opened, 0u);
}

}  // namespace
}  // namespace sheaf
