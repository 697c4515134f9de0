// Ranks over links: everybody gets every part of every gather, a step may end early and the next
// one goes on, and a rank that is lost, late or talks nonsense is named.
#include "exchange/gather/link_ranks.h"

#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/exchange/link_rig.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kModel = 77;

std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string Text(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

std::string Joined(RankGroup::Parts parts) {
  std::string text;
  for (const std::span<const uint8_t> part : parts) text += Text(part) + "|";
  return text;
}

class LinkRanksTest : public ::testing::TestWithParam<Mover> {
 protected:
  void Start(int num_ranks, RankPatience patience = {.step = kPatience}) {
    num_ranks_ = num_ranks;
    hub_ = std::make_unique<HubRanks>(num_ranks, kModel, rig_.worker_bell(), clock_, patience);
    for (int rank = 1; rank < num_ranks; ++rank) Link(rank);
    EXPECT_TRUE(hub_->AdoptLinks());
    EXPECT_FALSE(hub_->AdoptLinks());
  }

  // A process takes the rank's place.
  void Link(int rank) {
    leaves_.resize(static_cast<size_t>(num_ranks_));
    bells_.resize(leaves_.size());
    leaves_[rank] = nullptr;
    bells_[rank] = NewBell();
    const LinkRequest request = rig_.GoodRequest();
    auto link = rig_.connector().Connect(rig_.addresses(), request, *bells_[rank], In(kPatience));
    ASSERT_TRUE(link.ok()) << link.status();
    leaves_[rank] =
        std::make_unique<LeafRank>(rank, num_ranks_, kModel, *std::move(link), *bells_[rank]);
    hub_->Offer(rank, rig_.Accepted(request.link), "pid 7 on here");
  }

  LeafRank& leaf(int rank) { return *leaves_[rank]; }

  // Runs `leaf` as each rank but 0, on threads, and `hub` here.
  void Together(const std::function<void(HubRanks&)>& hub,
                const std::function<void(LeafRank&)>& leaf) {
    std::vector<std::thread> threads;
    for (int rank = 1; rank < num_ranks_; ++rank) {
      threads.emplace_back([this, &leaf, rank] { leaf(*leaves_[rank]); });
    }
    hub(*hub_);
    for (std::thread& thread : threads) thread.join();
  }

  // A step of one gather that works.
  void ExpectAStep(uint64_t step) {
    Together(
        [&](HubRanks& hub) {
          ASSERT_TRUE(hub.Begin(StepId(step), 1, Bytes("plan")).ok());
          const std::string own = "a";
          const auto parts = hub.Gather(Bytes(own));
          ASSERT_TRUE(parts.ok()) << parts.status();
          EXPECT_EQ(Joined(*parts), num_ranks_ == 2 ? "a|b|" : "a|b|c|");
        },
        [&](LeafRank& leaf) {
          auto plan = leaf.AwaitPlan([] { return false; });
          while (plan.ok() && plan->step != StepId(step)) {  // one that was ended meanwhile
            EXPECT_TRUE(absl::IsAborted(leaf.Gather({}).status()));
            plan = leaf.AwaitPlan([] { return false; });
          }
          ASSERT_TRUE(plan.ok()) << plan.status();
          EXPECT_EQ(Text(plan->bytes), "plan");
          const std::string own(1, char('a' + leaf.rank()));
          const auto parts = leaf.Gather(Bytes(own));
          ASSERT_TRUE(parts.ok()) << parts.status();
          EXPECT_EQ(Joined(*parts), num_ranks_ == 2 ? "a|b|" : "a|b|c|");
        });
  }

  SteadyClock clock_;
  LinkRig rig_{GetParam()};
  int num_ranks_ = 0;
  std::unique_ptr<HubRanks> hub_;
  std::vector<std::unique_ptr<Bell>> bells_;
  std::vector<std::unique_ptr<LeafRank>> leaves_;
};

TEST_P(LinkRanksTest, EveryRankGetsAllPartsOfEachGather) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  for (const int num_ranks : {2, 3, 5}) {
    Start(num_ranks);
    const auto part = [seed](int rank, int step, int gather) {
      std::mt19937_64 random(seed + rank * 10'000 + step * 100 + gather);
      return std::string(random() % (gather % 7 == 0 ? 200'000 : 300), char('a' + rank));
    };
    const auto steps = [&](RankGroup& group, const std::function<void(int)>& begin) {
      for (int step = 1; step <= 10; ++step) {
        begin(step);
        for (int gather = 0; gather < 20; ++gather) {
          std::string wanted;
          for (int rank = 0; rank < num_ranks; ++rank) wanted += part(rank, step, gather) + "|";
          const std::string own = part(group.rank(), step, gather);
          const auto parts = group.Gather(Bytes(own));
          ASSERT_TRUE(parts.ok()) << parts.status();
          ASSERT_TRUE(Joined(*parts) == wanted) << "step " << step << " gather " << gather;
        }
      }
    };
    Together(
        [&](HubRanks& hub) {
          steps(hub, [&](int step) {
            ASSERT_TRUE(hub.Begin(StepId(step), 3, Bytes("plan " + std::to_string(step))).ok());
          });
        },
        [&](LeafRank& leaf) {
          steps(leaf, [&](int step) {
            const auto plan = leaf.AwaitPlan([] { return false; });
            ASSERT_TRUE(plan.ok()) << plan.status();
            EXPECT_EQ(Text(plan->bytes), "plan " + std::to_string(step));
          });
        });
  }
}

TEST_P(LinkRanksTest, RankZeroEndsAStepAndTheNextOneGoesOn) {
  Start(3);
  Together(
      [&](HubRanks& hub) {
        ASSERT_TRUE(hub.Begin(StepId(1), 1, Bytes("plan")).ok());
        ASSERT_TRUE(hub.Gather(Bytes("a")).ok());
        hub.Abort(absl::UnavailableError("nobody holds expert 4"));
        EXPECT_TRUE(absl::IsAborted(hub.Gather({}).status()));
      },
      [&](LeafRank& leaf) {
        ASSERT_TRUE(leaf.AwaitPlan([] { return false; }).ok());
        ASSERT_TRUE(leaf.Gather(Bytes("x")).ok());
        EXPECT_EQ(leaf.Gather(Bytes("left over")).status(),
                  absl::AbortedError("nobody holds expert 4"));
        leaf.Abort(absl::AbortedError("is not told back"));
      });
  ExpectAStep(2);
}

TEST_P(LinkRanksTest, AnotherRankEndsAStepAndTheNextOneGoesOn) {
  Start(3);
  Together(
      [&](HubRanks& hub) {
        ASSERT_TRUE(hub.Begin(StepId(1), 1, Bytes("plan")).ok());
        const absl::Status status = hub.Gather(Bytes("a")).status();
        EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
        EXPECT_THAT(status.message(), HasSubstr("attention rank 2 (pid 7 on here): no\\nsense"));
        hub.Abort(status);
      },
      [&](LeafRank& leaf) {
        ASSERT_TRUE(leaf.AwaitPlan([] { return false; }).ok());
        if (leaf.rank() == 2) return leaf.Abort(absl::InternalError("no\nsense"));
        EXPECT_TRUE(absl::IsAborted(leaf.Gather(Bytes("x")).status()));
      });
  ExpectAStep(2);
}

TEST_P(LinkRanksTest, ALostRankIsNamedAndAnotherTakesItsPlace) {
  Start(3);
  ExpectAStep(1);
  leaves_[1] = nullptr;
  absl::Status status = hub_->Begin(StepId(2), 1, Bytes("plan"));
  if (status.ok()) status = hub_->Gather(Bytes("a")).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("attention rank 1 (pid 7 on here): "));
  hub_->Abort(status);
  EXPECT_THAT(hub_->Ready().message(), HasSubstr("waiting for attention rank 1 of 3"));
  EXPECT_THAT(hub_->Begin(StepId(3), 1, Bytes("plan")).message(), HasSubstr("rank 1 has no link"));
  Link(1);
  EXPECT_TRUE(hub_->Ready().ok());
  EXPECT_TRUE(hub_->AdoptLinks());
  ExpectAStep(4);
}

TEST_P(LinkRanksTest, AWithdrawnRankTakesPartInNoFurtherStep) {
  Start(3);
  hub_->Withdraw(2);
  EXPECT_THAT(hub_->Ready().message(), HasSubstr("waiting for attention rank 2 of 3"));
  EXPECT_FALSE(hub_->AdoptLinks());
  EXPECT_TRUE(absl::IsUnavailable(hub_->Begin(StepId(1), 1, Bytes("plan"))));
  EXPECT_TRUE(absl::IsUnavailable(leaf(2).AwaitPlan([] { return false; }).status()));
}

TEST_P(LinkRanksTest, ARankThatDoesNotAnswerInTimeIsGivenUp) {
  Start(2, {.step = std::chrono::milliseconds(20), .row = std::chrono::milliseconds(1)});
  ASSERT_TRUE(hub_->Begin(StepId(1), 5, Bytes("plan")).ok());
  const absl::Status status = hub_->Gather(Bytes("a")).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(status.message(), HasSubstr("no part of gather 1 of step 1 within 25 ms"));
  EXPECT_EQ(hub_->TakeLate(), std::vector<int>{1});
  EXPECT_TRUE(hub_->TakeLate().empty());
  EXPECT_FALSE(hub_->Ready().ok());
}

TEST_P(LinkRanksTest, LossesAreCountedOnceByCauseAndGroupsWhenTheyAreWhole) {
  const auto lost = [&](RankEnd cause) { return hub_->tally().lost[static_cast<size_t>(cause)]; };
  Start(3, {.step = std::chrono::milliseconds(20)});
  EXPECT_EQ(hub_->tally().present, 3);
  EXPECT_EQ(hub_->tally().groups, 1);
  hub_->Withdraw(2);
  hub_->Withdraw(2);  // its call has ended too
  hub_->Withdraw(1);
  EXPECT_EQ(hub_->tally().present, 1);
  EXPECT_EQ(lost(RankEnd::kClosed), 2);
  Link(1);
  EXPECT_EQ(hub_->tally().groups, 1);
  Link(2);
  EXPECT_EQ(hub_->tally().groups, 2);
  EXPECT_TRUE(hub_->AdoptLinks());
  ASSERT_TRUE(hub_->Begin(StepId(1), 1, Bytes("plan")).ok());
  EXPECT_FALSE(hub_->Gather(Bytes("a")).ok());  // neither answers: the first one is given up
  for (const int rank : hub_->TakeLate()) hub_->Withdraw(rank);
  EXPECT_EQ(lost(RankEnd::kLate), 1);
  EXPECT_EQ(lost(RankEnd::kClosed), 2);
  EXPECT_EQ(hub_->tally().present, 2);
}

TEST_P(LinkRanksTest, WhatAStepsGathersTookIsTakenOnce) {
  Start(3);
  ExpectAStep(1);
  const GatherFigures figures = hub_->TakeFigures();
  EXPECT_EQ(figures.gathers, 1);
  // plan and part to both, and each one's to the other
  EXPECT_EQ(figures.sent_bytes, 2 * (4 + 1) + 2);
  EXPECT_EQ(figures.received_bytes, 2);
  EXPECT_GT(figures.waited, Duration::zero());
  EXPECT_FALSE(figures.lost_rank);
  EXPECT_EQ(hub_->TakeFigures().gathers, 0);
  leaves_[1] = nullptr;
  absl::Status status = hub_->Begin(StepId(2), 1, Bytes("plan"));
  if (status.ok()) status = hub_->Gather(Bytes("a")).status();
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(hub_->TakeFigures().lost_rank);
}

TEST_P(LinkRanksTest, WaitingForAPlanEndsWhereTold) {
  Start(2);
  EXPECT_TRUE(absl::IsCancelled(leaf(1).AwaitPlan([] { return true; }).status()));
}

INSTANTIATE_TEST_SUITE_P(Movers, LinkRanksTest,
                         ::testing::Values(Mover::kInProcess, Mover::kSharedMemory, Mover::kTcp),
                         [](const auto& mover) { return NameOf(mover.param); });

}  // namespace
}  // namespace sheaf
