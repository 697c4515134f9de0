// Links come up, break alone, come back; and the pool says what is missing.

#include "exchange/pool/link_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/exchange/pool/pool_fixture.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class LinkPoolTest : public PoolFixture {};

TEST_F(LinkPoolTest, IsReadyWhenEveryExpertHasAHolder) {
  MakePool(PoolOptions());
  EXPECT_THAT(std::string(links_->Ready().message()), HasSubstr("no expert workers are known"));
  AddWorker(0, Share(0, 2, 1));
  ListWorkers();
  ASSERT_TRUE(observer_.Await("up 0"));
  EXPECT_FALSE(links_->Ready().ok());
  AddWorker(1, Share(1, 2, 1));
  ListWorkers();
  ASSERT_TRUE(AwaitReady(true));
  const LinkPoolSnapshot view = links_->snapshot();
  EXPECT_EQ(view.live_links, 2);
  EXPECT_EQ(view.coverage, (ExpertTable::Coverage{0, kLayers * kExperts, 0, 0}));
  ASSERT_EQ(view.workers.size(), 2u);
  EXPECT_TRUE(view.workers[1].live);
  EXPECT_EQ(view.workers[1].path, "in process");

  workers_[1]->Kill();
  ASSERT_TRUE(AwaitReady(false));
  const std::string text(links_->Ready().message());
  EXPECT_THAT(text, HasSubstr("nobody holds layer 0, expert 1 and 5 more"));
  EXPECT_THAT(text, HasSubstr("worker 1: "));
  EXPECT_EQ(observer_.Count("down 0"), 0) << "it concerns worker 1 alone";
}

TEST_F(LinkPoolTest, ABrokenLinkComesBackAndAnotherProcessIsTakenAtOnce) {
  MakePool(PoolOptions());
  StartWorkers(2, 1);
  for (const LinkId link : network_.links()) network_.Cut(link);
  EXPECT_TRUE(observer_.Await("up 0", 2));
  EXPECT_TRUE(observer_.Await("up 1", 2));
  AddWorker(1, Share(1, 2, 1));  // the process was replaced
  EXPECT_TRUE(observer_.Await("down 1", 2));
  ListWorkers();
  EXPECT_TRUE(observer_.Await("up 1", 3));
  EXPECT_TRUE(AwaitReady(true));
}

TEST_F(LinkPoolTest, AWorkerThatIsNotListedAnyMoreKeepsItsLink) {
  MakePool(PoolOptions());
  StartWorkers(2, 1);
  links_->SetWorkers({});
  AddWorker(2, everything_);
  links_->SetWorkers({workers_[2]->endpoint()});
  ASSERT_TRUE(observer_.Await("up 2"));
  EXPECT_EQ(observer_.Count("down"), 0);
  workers_[0]->Kill();
  ASSERT_TRUE(observer_.Await("down 0"));
}

TEST_F(LinkPoolTest, AnnouncementsAreTakenAndAnsweredWhileNoStepRuns) {
  MakePool(PoolOptions());
  AddWorker(0, Share(0, 2, 1));
  ListWorkers();
  ASSERT_TRUE(observer_.Await("up 0"));
  EXPECT_FALSE(links_->Ready().ok());
  workers_[0]->Announce(everything_);
  EXPECT_TRUE(AwaitReady(true));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (workers_[0]->seen() != 2 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_EQ(workers_[0]->seen(), 2u);
}

TEST_F(LinkPoolTest, AWorkerOfAnotherModelIsNamedOnce) {
  LinkPoolOptions options = PoolOptions();
  options.model.digest ^= 1;
  MakePool(options);
  AddWorker(0, everything_);
  ListWorkers();
  ASSERT_TRUE(observer_.Await("failed 0"));
  EXPECT_EQ(observer_.Count("failed 0"), 1);
  EXPECT_EQ(observer_.Count("up"), 0);
}

TEST_F(LinkPoolTest, NobodyThereIsTriedAgainUntilSomebodyIs) {
  MakePool(PoolOptions());
  AddWorker(0, everything_);
  network_.SetReachable(workers_[0]->endpoint().addresses[0], false);
  ListWorkers();
  ASSERT_TRUE(observer_.Await("failed 0"));
  network_.SetReachable(workers_[0]->endpoint().addresses[0], true);
  EXPECT_TRUE(observer_.Await("up 0"));
  EXPECT_EQ(observer_.Count("failed 0"), 1) << "not again for the same reason";
}

TEST_F(LinkPoolTest, LinksThatComeUpDuringAStepAreTakenInByIt) {
  MakePool(PoolOptions());
  AddWorker(0, everything_);
  LinkPool::Session session(*links_);
  ListWorkers();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  bool announced = false;
  while (!announced && std::chrono::steady_clock::now() < deadline) {
    const uint32_t rung = session.bell().rings();
    const TimePoint now = clock_.Now();
    PoolEvent event;
    while (session.links().Next(now, true, event))
      announced = announced || event.kind == PoolEvent::Kind::kHoldings;
    session.Turn(now);
    if (!announced) session.bell().WaitPast(rung, now + milliseconds(50));
  }
  EXPECT_TRUE(announced);
  EXPECT_TRUE(session.links().table().complete());
}

}  // namespace
}  // namespace sheaf
