// Experts come and go in the background: in order, within the bound, and never before routers know.

#include "worker/holdings/holding_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/exchange/test_seed.h"
#include "tests/worker/test_experts.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using std::chrono::seconds;

class Recorder final : public HoldingEvents {
 public:
  void OnHoldings(const Holdings& holdings) override {
    absl::MutexLock lock(&mutex_);
    holdings_.push_back(holdings);
  }
  void OnHoldFailed(uint64_t number, const LayerExpert& pair, const absl::Status& why) override {
    absl::MutexLock lock(&mutex_);
    failures_.push_back({number, pair, why});
  }
  void OnHoldingFacts(const HoldingFacts& facts) override {
    absl::MutexLock lock(&mutex_);
    facts_ = facts;
  }
  template <typename Predicate>
  bool WaitFor(const Predicate& predicate) {
    absl::MutexLock lock(&mutex_);
    const auto wanted = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return predicate(*this); };
    return mutex_.AwaitWithTimeout(absl::Condition(&wanted), kTestPatience);
  }
  bool WaitForHoldings(const std::vector<LayerExpert>& pairs) {
    return WaitFor([&](const Recorder& now) {
      return !now.holdings_.empty() && now.holdings_.back().List() == pairs;
    });
  }
  bool WaitQuiet(uint64_t hold) {
    return WaitFor([&](const Recorder& now) {
      return now.facts_.quiet && now.facts_.hold_number == hold;
    });
  }
  uint64_t last_number() {
    absl::MutexLock lock(&mutex_);
    return holdings_.empty() ? 1 : holdings_.back().number;
  }

  struct Failure {
    uint64_t number;
    LayerExpert pair;
    absl::Status why;
  };
  absl::Mutex mutex_;
  std::vector<Holdings> holdings_;
  std::vector<Failure> failures_;
  HoldingFacts facts_;
};

class HoldingLoaderTest : public testing::Test {
 protected:
  void Start(uint64_t memory_bytes = 0, Duration seen_patience = seconds(60)) {
    HoldingPlanOptions options;
    options.num_layers = kTestLayers;
    options.num_experts = kTestExperts;
    experts_.SetMemory(memory_bytes);
    options.seen_patience = seen_patience;
    loader_ = std::make_unique<HoldingLoader>(options, experts_, store_, events_);
  }
  bool Holds(const LayerExpert& pair) { return store_.Find(pair.layer, pair.expert) != nullptr; }

  TestExperts experts_{TestSeed()};
  ExpertStore store_{kTestLayers, kTestExperts, experts_.new_compute()};
  Recorder events_;
  std::unique_ptr<HoldingLoader> loader_;
};

TEST_F(HoldingLoaderTest, LoadsInOrderAndAnnounces) {
  Start();
  loader_->Want({1, {Pair(2, 5), Pair(1, 1), Pair(2, 0)}, 0, 0});
  ASSERT_TRUE(events_.WaitForHoldings({Pair(1, 1), Pair(2, 0), Pair(2, 5)}));
  EXPECT_THAT(experts_.loads(), ElementsAre(Pair(2, 5), Pair(1, 1), Pair(2, 0)));
  ASSERT_TRUE(events_.WaitQuiet(1));
  EXPECT_TRUE(Holds(Pair(2, 5)));
  EXPECT_EQ(loader_->facts().resident_bytes, 3 * kTestExpertBytes);
  EXPECT_EQ(loader_->facts().loaded_bytes, 3 * kTestExpertBytes);
}

TEST_F(HoldingLoaderTest, DropsAfterItWasSeenAndAJobKeepsItsExpert) {
  Start();
  loader_->Want({1, Pairs(1, 0, 2), 0, 0});
  ASSERT_TRUE(events_.WaitQuiet(1));
  HeldExpertPtr job = store_.Find(LayerId(1), ExpertId(0));
  loader_->Want({2, {Pair(1, 1)}, 0, 0});
  ASSERT_TRUE(events_.WaitForHoldings({Pair(1, 1)}));
  EXPECT_TRUE(Holds(Pair(1, 0))) << "a router may still ask for it";
  loader_->Seen(events_.last_number());
  ASSERT_TRUE(events_.WaitFor([](const Recorder& now) { return now.facts_.num_dropped == 1; }));
  EXPECT_FALSE(Holds(Pair(1, 0)));
  EXPECT_EQ(experts_.resident(), 2 * kTestExpertBytes);
  EXPECT_FALSE(loader_->facts().quiet);
  job = nullptr;
  ASSERT_TRUE(events_.WaitQuiet(2));
  EXPECT_EQ(experts_.resident(), kTestExpertBytes) << "its memory goes back";
}

TEST_F(HoldingLoaderTest, ALaterHoldReplacesAnEarlierOneBetweenTwoExperts) {
  experts_.Gate();
  Start();
  loader_->Want({1, Pairs(1, 0, 8), 0, 0});
  ASSERT_TRUE(experts_.WaitForLoads(1));
  loader_->Want({2, {Pair(2, 7)}, 1, 0});
  experts_.Open();
  ASSERT_TRUE(events_.WaitForHoldings({Pair(2, 7)}));
  EXPECT_THAT(experts_.loads(), ElementsAre(Pair(1, 0), Pair(2, 7)));
  ASSERT_TRUE(events_.WaitQuiet(2));
  EXPECT_EQ(experts_.resident(), kTestExpertBytes) << "the one that came too late was let go";
}

TEST_F(HoldingLoaderTest, NeverMoreThanItsMemory) {
  Start(4 * kTestExpertBytes);
  std::thread router([&] {  // sees whatever is announced
    uint64_t seen = 1;
    while (events_.WaitFor([&](const Recorder& now) {
      return !now.holdings_.empty() && now.holdings_.back().number > seen;
    })) {
      seen = events_.last_number();
      loader_->Seen(seen);
      if (loader_->facts().hold_number == 9) return;
    }
  });
  for (uint64_t hold = 1; hold <= 8; ++hold) {
    loader_->Want({hold, Pairs(1 + static_cast<int>(hold % 2), 0, 4), 0, 0});
    ASSERT_TRUE(events_.WaitQuiet(hold));
  }
  EXPECT_LE(experts_.most_resident(), 4 * kTestExpertBytes);
  EXPECT_TRUE(events_.failures_.empty());
  loader_->Want({9, {}, 0, 0});
  router.join();
  loader_->Want({10, Pairs(1, 0, 5), 0, 0});
  loader_->Seen(events_.last_number());
  ASSERT_TRUE(events_.WaitFor([](const Recorder& now) { return !now.failures_.empty(); }));
  absl::MutexLock lock(&events_.mutex_);
  EXPECT_EQ(events_.failures_[0].number, 10u);
  EXPECT_EQ(events_.failures_[0].pair, Pair(1, 4));
  EXPECT_TRUE(MayBeTransient(events_.failures_[0].why));
}

TEST_F(HoldingLoaderTest, AnErrorOfOneExpertIsToldAndTheOthersGoOn) {
  experts_.FailWith(Pair(1, 1), absl::DataLossError("shard-2: truncated"));
  experts_.FailWith(Pair(1, 2), absl::InvalidArgumentError("NaN in scales"));
  Start();
  loader_->Want({3, Pairs(1, 0, 4), 0, 0});
  ASSERT_TRUE(events_.WaitForHoldings({Pair(1, 0), Pair(1, 3)}));
  ASSERT_TRUE(events_.WaitQuiet(3));
  ASSERT_EQ(events_.failures_.size(), 2u);
  EXPECT_THAT(std::string(events_.failures_[0].why.message()), HasSubstr("truncated"));
  EXPECT_TRUE(MayBeTransient(events_.failures_[0].why));
  EXPECT_FALSE(MayBeTransient(events_.failures_[1].why));
  experts_.Mend(Pair(1, 1));
  loader_->Want({4, Pairs(1, 0, 4), 0, 0});
  ASSERT_TRUE(events_.WaitForHoldings({Pair(1, 0), Pair(1, 1), Pair(1, 3)}));
}

TEST_F(HoldingLoaderTest, ReloadReplacesTheExpertWhileItServes) {
  Start();
  loader_->Want({1, {Pair(1, 0)}, 0, 0});
  ASSERT_TRUE(events_.WaitQuiet(1));
  const HeldExpert* const old = store_.Find(LayerId(1), ExpertId(0)).get();
  experts_.Gate();
  loader_->Reload(Pair(1, 0));
  ASSERT_TRUE(experts_.WaitForLoads(2));
  EXPECT_EQ(store_.Find(LayerId(1), ExpertId(0)).get(), old);
  experts_.Open();
  ASSERT_TRUE(events_.WaitFor([](const Recorder& now) {
    return now.facts_.num_loaded == 2 && now.facts_.quiet;
  }));
  EXPECT_TRUE(Holds(Pair(1, 0)));
  EXPECT_EQ(experts_.resident(), kTestExpertBytes);
}

TEST_F(HoldingLoaderTest, TheCeilingIsKept) {
  Start();
  const TimePoint begin = std::chrono::steady_clock::now();
  loader_->Want({1, Pairs(1, 0, 6), 2, 50 * kTestExpertBytes});  // 20 ms each
  ASSERT_TRUE(events_.WaitQuiet(1));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(60));
}

TEST_F(HoldingLoaderTest, AStopWaitsForNothingButTheExpertBeingLoaded) {
  Start();
  loader_->Want({1, Pairs(1, 0, 8), 0, 1});  // a byte a second
  ASSERT_TRUE(experts_.WaitForLoads(1));
  const TimePoint begin = std::chrono::steady_clock::now();
  loader_ = nullptr;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
}

TEST(SeveralLanes, LoadEverythingOnce) {
  TestExperts experts(TestSeed(), 4);
  ExpertStore store(kTestLayers, kTestExperts, experts.new_compute());
  Recorder events;
  HoldingPlanOptions options;
  options.num_layers = kTestLayers;
  options.num_experts = kTestExperts;
  HoldingLoader loader(options, experts, store, events);
  std::vector<LayerExpert> all = Pairs(1, 0, kTestExperts);
  for (const LayerExpert& pair : Pairs(2, 0, kTestExperts)) all.push_back(pair);
  loader.Want({1, all, 0, 0});
  ASSERT_TRUE(events.WaitForHoldings(all));
  EXPECT_EQ(experts.loads().size(), all.size());
}

}  // namespace
}  // namespace sheaf
