// A worker's answers over links: the right bits, what is not held, one router not behind another,
// and experts that come and go meanwhile.

#include "worker/serve/link_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/exchange/test_seed.h"
#include "tests/worker/deep_compute.h"
#include "tests/worker/test_router.h"
#include "worker/holdings/expert_store.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Watcher final : public ServeObserver {
 public:
  void OnServed(const ServedDispatch& served) override {
    absl::MutexLock lock(&mutex_);
    served_.push_back(served);
  }
  void OnLinks(int live) override {
    absl::MutexLock lock(&mutex_);
    links_ = live;
  }
  bool WaitForLinks(int count) {
    absl::MutexLock lock(&mutex_);
    const auto wanted = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return links_ == count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&wanted), kTestPatience);
  }
  std::vector<ServedDispatch> served() {
    absl::MutexLock lock(&mutex_);
    return served_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<ServedDispatch> served_;
  int links_ = 0;
};

class LinkServerTest : public testing::Test {
 protected:
  // Holds all experts of layer 1, and layer 2's [0, 4).
  void SetUp() override {
    Holdings holdings(kTestLayers, kTestExperts);
    holdings.number = 5;
    std::vector<LayerExpert> held = Pairs(1, 0, kTestExperts);
    for (const LayerExpert& pair : Pairs(2, 0, 4)) held.push_back(pair);
    for (const LayerExpert& pair : held) {
      store_.Add(pair, *experts_.Load(pair, 0));
      holdings.Add(pair.layer, pair.expert);
    }
    holdings_ = holdings;
    Start(network_);
  }
  void Start(InProcessNetwork& network, Duration full_patience = std::chrono::seconds(2)) {
    maker_ = std::make_unique<InProcessLinkMaker>(network);
    server_ = std::make_unique<LinkServer>(
        TestModel(), 2, store_, holdings_, *bell_,
        [this](uint64_t number) {
          absl::MutexLock lock(&mutex_);
          seen_ = number;
        },
        &watcher_, ExchangeWait::Sleep(), full_patience);
    LinkListenerOptions options;
    options.self = {TestModel().digest, InstanceId(7), {}};
    listener_ = *maker_->Listen(options, *bell_, [this](auto link, const Hello& hello) {
      server_->AddLink(std::move(link), hello);
    });
  }
  TestRouter Router(uint64_t instance) {
    const InstanceId to(7), from(instance);
    return TestRouter(*maker_, listener_->addresses(),
                      {TestModel().digest, to, from, LinkId(++last_link_),
                       LinkKeyFor(LinkSecret{}, to, from)});
  }
  bool WaitSeen(uint64_t number) {
    absl::MutexLock lock(&mutex_);
    const auto wanted = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return seen_ >= number; };
    return mutex_.AwaitWithTimeout(absl::Condition(&wanted), kTestPatience);
  }
  uint64_t seen() {
    absl::MutexLock lock(&mutex_);
    return seen_;
  }

  const uint64_t seed_ = TestSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  TestExperts experts_{seed_};
  NewExpertCompute new_compute_ = experts_.new_compute();
  ExpertStore store_{kTestLayers, kTestExperts,
                     [this](ThreadPool& pool) { return new_compute_(pool); }};
  Holdings holdings_;
  std::unique_ptr<Bell> bell_ = *Bell::Create();
  absl::Mutex mutex_;
  uint64_t seen_ = 0;
  Watcher watcher_;
  InProcessNetwork network_;
  std::unique_ptr<InProcessLinkMaker> maker_;
  std::unique_ptr<LinkServer> server_;
  std::unique_ptr<LinkListener> listener_;
  uint64_t last_link_ = 0;
};

TEST_F(LinkServerTest, AnswersHaveTheBitsOfTheKernels) {
  TestRouter router = Router(1);
  for (const FrameElement element : {FrameElement::kFloat32, FrameElement::kInt16Groups}) {
    for (const int tokens : {1, 9, 70}) {
      const RandomBatch batch(random_, LayerId(1), tokens, kTestHidden, kTestExperts, 3);
      const uint64_t sequence = router.Ask(batch.At(1), element);
      const auto answer = router.NextAnswer();
      ASSERT_TRUE(answer.has_value()) << router.status();
      EXPECT_EQ(answer->header.sequence, sequence);
      EXPECT_EQ(answer->header.element, element);
      ExpectRightBits(batch.At(1), experts_.weights(), *answer);
    }
  }
  EXPECT_EQ(watcher_.served().front().outcome, ServedDispatch::Outcome::kCombine);
}

TEST_F(LinkServerTest, ANewLinkIsToldWhatIsHeldAndALateComerTheNewest) {
  TestRouter first = Router(1);
  ASSERT_TRUE(first.WaitForHoldings(holdings_.List()));
  EXPECT_EQ(first.holdings().number, 5u);
  Holdings next = holdings_;
  next.number = 6;
  next.Remove(LayerId(1), ExpertId(3));
  server_->Announce(next);
  ASSERT_TRUE(first.WaitForHoldings(next.List()));
  TestRouter late = Router(2);
  ASSERT_TRUE(late.WaitForHoldings(next.List()));
  EXPECT_EQ(late.holdings().number, 6u);
}

TEST_F(LinkServerTest, WhatIsNotHeldIsNamedAndNothingIsComputed) {
  TestRouter router = Router(1);
  const RandomBatch batch(random_, LayerId(2), 4, kTestHidden, kTestExperts, kTestExperts);
  router.Ask(batch.At(1));
  auto answer = router.NextAnswer();
  ASSERT_TRUE(answer.has_value());
  ASSERT_EQ(answer->header.kind, FrameKind::kNotHeld) << answer->text();
  EXPECT_THAT(answer->not_held(), ElementsAre(4, 5, 6, 7));
  const RandomBatch good(random_, LayerId(1), 2, kTestHidden, kTestExperts, 2);
  router.Ask(good.At(2));
  answer = router.NextAnswer();
  ASSERT_TRUE(answer.has_value());
  ExpectRightBits(good.At(2), experts_.weights(), *answer);
  EXPECT_EQ(watcher_.served()[0].outcome, ServedDispatch::Outcome::kNotHeld);
}

TEST_F(LinkServerTest, ADispatchOfAnotherModelIsAnErrorAndTheLinkGoesOn) {
  TestRouter router = Router(1);
  const auto error = [&](const RoutedBatch& batch, uint32_t model) {
    router.Ask(batch, FrameElement::kFloat32, model);
    const auto answer = router.NextAnswer();
    if (!answer.has_value() || answer->header.kind != FrameKind::kError) return std::string("none");
    return answer->text();
  };
  const auto model = static_cast<uint32_t>(TestModel().digest);
  const RandomBatch batch(random_, LayerId(1), 2, kTestHidden, kTestExperts, 2);
  EXPECT_THAT(error(batch.At(1), model + 1), HasSubstr("model: wanted 55667788, got 55667789"));
  const RandomBatch wide(random_, LayerId(1), 2, 2 * kTestHidden, kTestExperts, 2);
  EXPECT_THAT(error(wide.At(1), model), HasSubstr("hidden size: wanted 128, got 256"));
  const RandomBatch dense(random_, LayerId(0), 2, kTestHidden, kTestExperts, 2);
  EXPECT_THAT(error(dense.At(1), model), HasSubstr("layer: wanted 1..2"));
  router.Ask(batch.At(2));
  const auto answer = router.NextAnswer();
  ASSERT_TRUE(answer.has_value());
  ExpectRightBits(batch.At(2), experts_.weights(), *answer);
}

TEST_F(LinkServerTest, NoRouterWaitsForMoreThanOneDispatchOfAnother) {
  // Both links are full of dispatches before the server looks: a tap holds them all back.
  network_.SetTap([](PassingFrame& frame) {
    return frame.to_worker ? TapVerdict::kHold : TapVerdict::kPass;
  });
  TestRouter busy = Router(1), other = Router(2);
  ASSERT_TRUE(watcher_.WaitForLinks(2));
  const RandomBatch big(random_, LayerId(1), 512, kTestHidden, kTestExperts, 4);
  const RandomBatch small(random_, LayerId(1), 1, kTestHidden, kTestExperts, 4);
  for (int i = 0; i < 20; ++i) ASSERT_NE(busy.Ask(big.At(1)), 0u);
  for (int i = 0; i < 5; ++i) ASSERT_NE(other.Ask(small.At(1)), 0u);
  network_.SetTap({});
  network_.DeliverHeld();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(other.NextAnswer().has_value());
  // The last small one was answered after at most as many big ones as there were small ones, and
  // the two that the server may have taken before the first small one came.
  const std::vector<ServedDispatch> served = watcher_.served();
  int big_before = 0, small_seen = 0, run = 0, longest_run = 0;
  for (const ServedDispatch& one : served) {
    if (one.router == InstanceId(2)) {
      ++small_seen;
      run = 0;
    } else if (small_seen < 5) {
      ++big_before;
      if (small_seen > 0) longest_run = std::max(longest_run, ++run);
    }
  }
  EXPECT_LE(longest_run, 2) << "round robin begins one further each round";
  EXPECT_LT(big_before, 20) << "the others were still waiting";
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(busy.NextAnswer().has_value());
}

TEST_F(LinkServerTest, AnAnnouncementIsSeenWhenEveryLiveLinkSaysSo) {
  TestRouter first = Router(1);
  ASSERT_TRUE(first.WaitForHoldings(holdings_.List()));
  auto second = std::make_unique<TestRouter>(Router(2));
  ASSERT_TRUE(second->WaitForHoldings(holdings_.List()));
  Holdings next = holdings_;
  next.number = 6;
  next.Remove(LayerId(1), ExpertId(3));
  server_->Announce(next);
  ASSERT_TRUE(first.WaitForHoldings(next.List()));
  ASSERT_TRUE(second->WaitForHoldings(next.List(), false));
  // A dispatch behind first's acknowledgement: the server has read that.
  const RandomBatch batch(random_, LayerId(1), 1, kTestHidden, kTestExperts, 2);
  first.Ask(batch.At(1));
  ASSERT_TRUE(first.NextAnswer().has_value());
  EXPECT_LT(seen(), 6u);
  TestRouter late = Router(3);  // it never knew of anything else
  second = nullptr;             // and who is gone asks for nothing
  EXPECT_TRUE(WaitSeen(6));
}

TEST_F(LinkServerTest, WithoutLinksAnAnnouncementIsSeenAtOnce) {
  Holdings next = holdings_;
  next.number = 9;
  server_->Announce(next);
  EXPECT_TRUE(WaitSeen(9));
}

TEST_F(LinkServerTest, ARouterThatDoesNotReadIsCutOffAndHarmsNobody) {
  server_ = nullptr;
  InProcessNetwork narrow({.max_frames = 4, .max_bytes = size_t{1} << 20});
  listener_ = nullptr;
  Start(narrow, std::chrono::milliseconds(20));
  TestRouter deaf = Router(1), good = Router(2);
  ASSERT_TRUE(good.WaitForHoldings(holdings_.List()));
  Holdings next = holdings_;
  while (deaf.status().ok() && next.number < 40) {
    ++next.number;
    server_->Announce(next);
    ASSERT_TRUE(good.WaitForHoldings(holdings_.List()));
    const RandomBatch batch(random_, LayerId(1), 3, kTestHidden, kTestExperts, 2);
    ASSERT_NE(good.Ask(batch.At(1)), 0u);
    const auto answer = good.NextAnswer();
    ASSERT_TRUE(answer.has_value()) << good.status();
    ExpectRightBits(batch.At(1), experts_.weights(), *answer);
  }
  EXPECT_TRUE(watcher_.WaitForLinks(1));
  // What was sent before can still be read; then it is over.
  while (deaf.NextFrame().has_value()) {
  }
  EXPECT_FALSE(deaf.status().ok());
  listener_ = nullptr;
  server_ = nullptr;
}

TEST_F(LinkServerTest, AnnouncementsFasterThanARouterReadsAreLeftOutButTheNewest) {
  server_ = nullptr;
  InProcessNetwork narrow({.max_frames = 4, .max_bytes = size_t{1} << 20});
  listener_ = nullptr;
  Start(narrow, std::chrono::hours(1));
  TestRouter router = Router(1), other = Router(2);
  ASSERT_TRUE(router.WaitForHoldings(holdings_.List()));
  Holdings next = holdings_;
  for (int i = 0; i < 11; ++i) {  // while it reads nothing
    ++next.number;
    if (i == 10) {
      next = Holdings(kTestLayers, kTestExperts);
      next.number = holdings_.number + 11;
    } else if (i % 2 == 0) {
      next.Remove(LayerId(1), ExpertId(3));
    } else {
      next.Add(LayerId(1), ExpertId(3));
    }
    server_->Announce(next);
    ASSERT_TRUE(other.WaitForHoldings(next.List()));
  }
  ASSERT_TRUE(router.WaitForHoldings(next.List(), false)) << router.status();
  router.Seen(next.number);
  EXPECT_TRUE(WaitSeen(next.number));
  const RandomBatch batch(random_, LayerId(1), 1, kTestHidden, kTestExperts, 2);
  ASSERT_NE(router.Ask(batch.At(1)), 0u);
  EXPECT_TRUE(router.NextAnswer().has_value());
  listener_ = nullptr;
  server_ = nullptr;
}

TEST_F(LinkServerTest, ARouterThatSaysWhatItMayNotIsCutOff) {
  TestRouter router = Router(1);
  ASSERT_TRUE(router.WaitForHoldings(holdings_.List()));
  router.Seen(6);  // nobody announced that
  EXPECT_FALSE(router.NextFrame().has_value());
  EXPECT_FALSE(router.status().ok());
}

TEST_F(LinkServerTest, ARouterHasOneLinkTheNewest) {
  TestRouter old = Router(1);
  ASSERT_TRUE(old.WaitForHoldings(holdings_.List()));
  TestRouter fresh = Router(1);
  ASSERT_TRUE(fresh.WaitForHoldings(holdings_.List()));
  EXPECT_FALSE(old.NextFrame().has_value());
  EXPECT_TRUE(watcher_.WaitForLinks(1));
}

TEST_F(LinkServerTest, ExpertsComeAndGoWhileOthersCompute) {
  std::atomic<bool> stop{false};
  std::thread mover([&] {
    std::mt19937_64 random(seed_ + 1);
    while (!stop) {
      const LayerExpert pair = Pair(1, static_cast<int>(random() % kTestExperts));
      if (random() % 2 == 0) {
        store_.Drop(pair);
      } else {
        store_.Add(pair, *experts_.Load(pair, 0));
      }
    }
  });
  TestRouter router = Router(1);
  int combines = 0, not_held = 0;
  for (int i = 0; i < 3000 && (combines < 100 || not_held < 100); ++i) {
    const RandomBatch batch(random_, LayerId(1), 1 + i % 4, kTestHidden, kTestExperts, 2);
    ASSERT_NE(router.Ask(batch.At(1)), 0u);
    const auto answer = router.NextAnswer();
    ASSERT_TRUE(answer.has_value());
    if (answer->header.kind == FrameKind::kNotHeld) {
      ++not_held;
      continue;
    }
    ++combines;
    ExpectRightBits(batch.At(1), experts_.weights(), *answer);
    if (HasFatalFailure()) break;
  }
  stop = true;
  mover.join();
  EXPECT_GT(combines, 0);
  EXPECT_GT(not_held, 0);
  EXPECT_EQ(experts_.resident(), store_.resident_bytes()) << "nothing dropped is kept";
}

// An engine that computes while the next dispatch is read.
class DeepLinkServerTest : public LinkServerTest {
 protected:
  void SetUp() override {
    new_compute_ = [this](ThreadPool& pool) { return std::make_unique<DeepCompute>(pool, deep_); };
    LinkServerTest::SetUp();
  }
  ~DeepLinkServerTest() override { deep_.Open(); }
  DeepWatch deep_;
};

TEST_F(DeepLinkServerTest, TheNextRoutersDispatchIsReadWhileOnesIsComputed) {
  TestRouter first = Router(1), second = Router(2);
  ASSERT_TRUE(first.WaitForHoldings(holdings_.List()));
  ASSERT_TRUE(second.WaitForHoldings(holdings_.List()));
  for (int round = 0; round < 10; ++round) {
    const RandomBatch one(random_, LayerId(1), 1 + round, kTestHidden, kTestExperts, 2);
    const RandomBatch other(random_, LayerId(1), 40, kTestHidden, kTestExperts, 3);
    if (round == 0) deep_.Gate();
    ASSERT_NE(first.Ask(one.At(1)), 0u);
    if (round == 0) {
      ASSERT_TRUE(deep_.WaitForSubmitted(1));
    }
    ASSERT_NE(second.Ask(other.At(1), FrameElement::kInt16Groups), 0u);
    deep_.Open();
    const auto of_first = first.NextAnswer(), of_second = second.NextAnswer();
    ASSERT_TRUE(of_first.has_value() && of_second.has_value());
    ExpectRightBits(one.At(1), experts_.weights(), *of_first);
    ExpectRightBits(other.At(1), experts_.weights(), *of_second);
  }
  EXPECT_EQ(deep_.most_under_way(), 2);
}

TEST_F(DeepLinkServerTest, LinksComeAndGoWhileADispatchIsUnderWay) {
  TestRouter first = Router(1);
  ASSERT_TRUE(first.WaitForHoldings(holdings_.List()));
  const RandomBatch batch(random_, LayerId(1), 5, kTestHidden, kTestExperts, 2);
  deep_.Gate();
  ASSERT_NE(first.Ask(batch.At(1)), 0u);
  ASSERT_TRUE(deep_.WaitForSubmitted(1));
  TestRouter fresh = Router(1);  // replaces the link whose dispatch is under way
  TestRouter second = Router(2);
  deep_.Open();
  ASSERT_TRUE(second.WaitForHoldings(holdings_.List()));
  ASSERT_NE(second.Ask(batch.At(1)), 0u);
  ASSERT_TRUE(fresh.WaitForHoldings(holdings_.List()));
  ASSERT_NE(fresh.Ask(batch.At(2)), 0u);
  for (TestRouter* router : {&fresh, &second}) {
    const auto answer = router->NextAnswer();
    ASSERT_TRUE(answer.has_value());
    ExpectRightBits(batch.At(1), experts_.weights(), *answer);
  }
}

TEST_F(DeepLinkServerTest, AFailedComputationIsAnsweredWithItsReason) {
  TestRouter router = Router(1);
  const RandomBatch batch(random_, LayerId(1), 3, kTestHidden, kTestExperts, 2);
  deep_.FailNext(absl::UnavailableError("cuda:0: gone"));
  router.Ask(batch.At(1));
  const auto failed = router.NextAnswer();
  ASSERT_TRUE(failed.has_value());
  EXPECT_EQ(failed->header.kind, FrameKind::kError);
  EXPECT_EQ(failed->text(), "cuda:0: gone");
  router.Ask(batch.At(2));
  const auto answer = router.NextAnswer();
  ASSERT_TRUE(answer.has_value());
  ExpectRightBits(batch.At(1), experts_.weights(), *answer);
}

}  // namespace
}  // namespace sheaf
