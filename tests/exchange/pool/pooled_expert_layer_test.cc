// Wherever the experts live and whatever happens to workers, the sum has the same bits; and what
// cannot be helped has a name and an end.

#include "exchange/pool/pooled_expert_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "exchange/layer/local_expert_layer.h"
#include "tests/exchange/pool/pool_fixture.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> Sum(ExpertLayer& layer, const RandomBatch& batch, uint64_t step,
                       absl::Status* status = nullptr) {
  std::vector<float> sum(batch.sum_floats(), std::numeric_limits<float>::quiet_NaN());
  absl::Status result = layer.Begin(batch.At(step));
  if (result.ok()) result = layer.Finish(sum.data());
  if (status != nullptr) {
    *status = result;
  } else {
    EXPECT_TRUE(result.ok()) << result;
  }
  return sum;
}

bool SameSum(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class WrongAnswers final : public PooledLayerObserver {
 public:
  void OnWrongAnswer(WorkerId worker, LayerId layer, ExpertId expert) override {
    wrong.push_back({worker, layer, expert});
  }
  void OnUndecided(WorkerId, WorkerId, LayerId, ExpertId) override { ++undecided; }
  void OnGivenUp(LayerId, const absl::Status&, std::span<const ExpertId> orphans) override {
    given_up_orphans = {orphans.begin(), orphans.end()};
  }
  struct Wrong {
    WorkerId worker;
    LayerId layer;
    ExpertId expert;
  };
  std::vector<Wrong> wrong;
  int undecided = 0;
  std::vector<ExpertId> given_up_orphans;
};

class PooledLayerTest : public PoolFixture {
 protected:
  // Patient, so that a busy machine changes nothing; tests of bounds set their own.
  static PooledExpertLayerOptions Patient() {
    PooledExpertLayerOptions options;
    options.machine.orphan_patience = seconds(20);
    options.machine.give_up_after = seconds(20);
    options.machine.verify_patience = seconds(20);
    return options;
  }
  PooledExpertLayer& Make(const PooledExpertLayerOptions& options = Patient()) {
    layer_ = std::make_unique<PooledExpertLayer>(*links_, pool_, options, &wrong_);
    return *layer_;
  }
  RandomBatch Batch(int layer, int tokens, int top_k = kTopK) {
    return RandomBatch(random_, LayerId(layer), tokens, kHidden, kExperts, top_k);
  }
  void ExpectSameAsLocal(int layer, int tokens, const char* what) {
    const RandomBatch batch = Batch(layer, tokens);
    ++step_;
    EXPECT_TRUE(SameSum(Sum(local_, batch, step_), Sum(*layer_, batch, step_)))
        << what << ", layer " << layer << ", " << tokens << " tokens";
  }

  ThreadPool pool_{2};
  LocalExpertLayer local_{experts_, kLayers, kExperts, pool_};
  WrongAnswers wrong_;
  std::unique_ptr<PooledExpertLayer> layer_;
  uint64_t step_ = 0;
};

TEST_F(PooledLayerTest, AnyNumberOfWorkersAndReplicasGivesTheBitsOfNone) {
  for (const int count : {1, 2, 3, 5, 7}) {
    for (const int replicas : {1, 2}) {
      if (replicas > count) continue;
      workers_.clear();
      layer_.reset();
      links_.reset();
      MakePool(PoolOptions());
      for (int id = 0; id < count; ++id) AddWorker(id, Share(id, count, replicas));
      ListWorkers();
      ASSERT_TRUE(AwaitReady(true));
      Make();
      for (const int tokens : {1, 2, 33, 150}) ExpectSameAsLocal(int(random_() % 2), tokens, "");
    }
  }
}

TEST_F(PooledLayerTest, RowsOf8BitsGiveTheBitsOfNoWorkerToo) {
  MakePool(PoolOptions());
  StartWorkers(3, 1);
  Make();
  for (const int tokens : {1, 33, 150}) {
    const RandomBatch batch(random_, LayerId(1), tokens, kHidden, kExperts, kTopK, false,
                            kernels::ActivationBits::k8);
    EXPECT_TRUE(SameSum(Sum(local_, batch, 1), Sum(*layer_, batch, 1))) << tokens;
  }
}

TEST_F(PooledLayerTest, PartsOfABatchGiveTheBitsOfTheWhole) {
  MakePool(PoolOptions());
  StartWorkers(3, 1);
  PooledExpertLayerOptions options = Patient();
  options.chunk_tokens = 16;
  Make(options);
  ExpectSameAsLocal(0, 100, "parts of 16");
  LocalExpertLayer parts(experts_, kLayers, kExperts, pool_, FrameElement::kFloat32, 7);
  const RandomBatch batch = Batch(1, 50);
  EXPECT_TRUE(SameSum(Sum(local_, batch, 1), Sum(parts, batch, 1)));
}

TEST_F(PooledLayerTest, PartsGrowAsFarAsTheirTimeAllows) {
  MakePool(PoolOptions());
  StartWorkers(1, 1);
  PooledExpertLayerOptions options = Patient();
  options.chunk_tokens = 16;
  options.max_chunk_tokens = 64;
  const auto parts_of_100_tokens = [&](std::chrono::milliseconds chunk_time) {
    options.chunk_time = chunk_time;
    Make(options);
    ExpectSameAsLocal(0, 100, "parts");
    return layer_->TakeTotals().workers.at(0).answers;
  };
  EXPECT_EQ(parts_of_100_tokens(std::chrono::hours(10)), 3) << "16, 64, 20";
  EXPECT_EQ(parts_of_100_tokens(std::chrono::milliseconds(0)), 7) << "16, 16, ..., 4";
}

TEST_F(PooledLayerTest, Int16CombinesGiveTheBitsOfTheLocalOnesRoundedAlike) {
  MakePool(PoolOptions());
  StartWorkers(3, 2);
  PooledExpertLayerOptions options = Patient();
  options.combine_element = FrameElement::kInt16Groups;
  options.machine.verify_share = 0.3;
  Make(options);
  LocalExpertLayer rounded(experts_, kLayers, kExperts, pool_, FrameElement::kInt16Groups);
  for (const int tokens : {1, 40}) {
    const RandomBatch batch = Batch(1, tokens);
    const std::vector<float> got = Sum(*layer_, batch, 1);
    EXPECT_TRUE(SameSum(Sum(rounded, batch, 1), got));
    EXPECT_FALSE(SameSum(Sum(local_, batch, 1), got)) << "rounding should show";
  }
  EXPECT_EQ(layer_->TakeTotals().differing_pairs, 0);
}

TEST_F(PooledLayerTest, WorkersDieAndComeBackAndNothingShows) {
  MakePool(PoolOptions());
  StartWorkers(4, 2);
  Make();
  for (int round = 0; round < 12; ++round) {
    const int victim = round % 4;
    const RandomBatch batch = Batch(round % 2, 5);
    const std::vector<float> want = Sum(local_, batch, 1);
    std::vector<float> got(batch.sum_floats());
    ASSERT_TRUE(layer_->Begin(batch.At(++step_)).ok());
    workers_[size_t(victim)]->Kill();  // with its dispatch under way
    const absl::Status status = layer_->Finish(got.data());
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_TRUE(SameSum(want, got)) << "round " << round;
    ExpectSameAsLocal(0, 3, "one worker less");
    AddWorker(victim, Share(victim, 4, 2));
    ListWorkers();
    ASSERT_TRUE(observer_.Await("up " + std::to_string(victim), round / 4 + 2));
  }
}

TEST_F(PooledLayerTest, ASilentWorkerCostsAHedgeAndItsLateAnswerIsDropped) {
  LinkPoolOptions options = PoolOptions();
  options.silence = seconds(30);
  MakePool(options);
  StartWorkers(2, 2);
  Make();
  for (int i = 0; i < 20; ++i) ExpectSameAsLocal(0, 4, "warm");
  layer_->TakeTotals();
  workers_[0]->SetSilent(true);
  // It may be slow to be asked: the other one holds the same, and a busy machine makes one look
  // slower.
  auto deadline = std::chrono::steady_clock::now() + seconds(20);
  int64_t hedges_won = 0;
  int64_t late_pairs = 0;
  while (hedges_won == 0 && std::chrono::steady_clock::now() < deadline) {
    ExpectSameAsLocal(1, 4, "one is silent");
    const ExchangeTotals silent = layer_->TakeTotals();
    hedges_won += silent.layers.hedges_won;
    late_pairs += silent.layers.pairs[size_t(AskCause::kLate)];
  }
  EXPECT_GE(hedges_won, 1);
  EXPECT_GE(late_pairs, 1);
  workers_[0]->SetSilent(false);
  deadline = std::chrono::steady_clock::now() + seconds(20);
  while (observer_.Count("late 0") == 0 && std::chrono::steady_clock::now() < deadline)
    ExpectSameAsLocal(0, 2, "it catches up");
  EXPECT_GE(observer_.Count("late 0"), 1);
  EXPECT_EQ(observer_.Count("down"), 0);
  ExpectSameAsLocal(0, 9, "after");
}

TEST_F(PooledLayerTest, ALinkThatIsSilentForTooLongIsEndedAndComesBack) {
  LinkPoolOptions options = PoolOptions();
  options.silence = milliseconds(200);
  MakePool(options);
  StartWorkers(2, 2);
  Make();
  for (int i = 0; i < 20; ++i) ExpectSameAsLocal(0, 4, "warm");
  workers_[1]->SetSilent(true);
  // It may be slow to be asked: the other one holds the same.
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  while (observer_.Count("down 1") == 0 && std::chrono::steady_clock::now() < deadline)
    ExpectSameAsLocal(0, 7, "one is silent");
  EXPECT_TRUE(observer_.Await("down 1 no answer to dispatch"));
  EXPECT_TRUE(observer_.Await("up 1", 2)) << "it still listens";
  workers_[1]->SetSilent(false);
  ExpectSameAsLocal(1, 4, "after");
}

TEST_F(PooledLayerTest, NobodyHoldsItEndsSoonAndNamesIt) {
  MakePool(PoolOptions());
  StartWorkers(2, 1);
  Make({});
  workers_[1]->Kill();
  const RandomBatch batch = Batch(1, 3, kExperts);
  absl::Status status;
  const auto before = std::chrono::steady_clock::now();
  Sum(*layer_, batch, 9, &status);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 1 is given up: no worker holds"));
  EXPECT_LT(std::chrono::steady_clock::now() - before, seconds(4));
  EXPECT_THAT(wrong_.given_up_orphans, ElementsAre(ExpertId(1), ExpertId(3), ExpertId(5)));
  AddWorker(1, Share(1, 2, 1));
  ListWorkers();
  ASSERT_TRUE(observer_.Await("up 1", 2));
  EXPECT_TRUE(SameSum(Sum(local_, batch, 9), Sum(*layer_, batch, 9))) << "the same step again";
}

TEST_F(PooledLayerTest, AHolderThatComesUpWhileALayerWaitsSavesIt) {
  MakePool(PoolOptions());
  StartWorkers(2, 1);
  PooledExpertLayerOptions options = Patient();
  Make(options);
  const RandomBatch batch = Batch(0, 3, kExperts);
  const std::vector<float> want = Sum(local_, batch, 1);
  std::vector<float> got(batch.sum_floats());
  workers_[1]->SetSilent(true);
  ASSERT_TRUE(layer_->Begin(batch.At(1)).ok());
  workers_[1]->Kill();
  std::thread replacement([&] {
    AddWorker(2, Share(1, 2, 1));
    links_->SetWorkers({workers_[0]->endpoint(), workers_[2]->endpoint()});
  });
  const absl::Status status = layer_->Finish(got.data());
  replacement.join();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(SameSum(want, got));
}

TEST_F(PooledLayerTest, HoldingsChangeUnderWay) {
  MakePool(PoolOptions());
  StartWorkers(3, 3);
  Make();
  ExpectSameAsLocal(0, 5, "all hold all");
  workers_[0]->DropSilently(Holdings(kLayers, kExperts));
  // On a busy machine it may look too slow to be asked at once.
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  int64_t not_held = 0;
  for (int i = 0; not_held == 0 && std::chrono::steady_clock::now() < deadline; ++i) {
    ExpectSameAsLocal(i % 2, 6, "the table is stale");
    not_held = layer_->TakeTotals().layers.pairs[size_t(AskCause::kNotHeld)];
  }
  EXPECT_GT(not_held, 0);
  workers_[0]->Announce(Holdings(kLayers, kExperts));
  workers_[1]->Announce(Share(0, 2, 1));
  workers_[2]->Announce(Share(1, 2, 1));
  for (int i = 0; i < 4; ++i) ExpectSameAsLocal(i % 2, 6, "each expert once");
  workers_[0]->Announce(everything_);
  for (int i = 0; i < 4; ++i) ExpectSameAsLocal(i % 2, 6, "more");
}

TEST_F(PooledLayerTest, AnErrorOfOneIsAnsweredByAnotherAndOfAllHasItsText) {
  MakePool(PoolOptions());
  StartWorkers(2, 2);
  Make();
  workers_[0]->SetFailing(true);
  ExpectSameAsLocal(0, 5, "one fails");
  workers_[1]->SetFailing(true);
  absl::Status status;
  Sum(*layer_, Batch(0, 5), 3, &status);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker 1 fails as told"));
  workers_[1]->SetFailing(false);
  ExpectSameAsLocal(1, 5, "again");
}

TEST_F(PooledLayerTest, AnswersThatFitNoDispatchEndTheLink) {
  MakePool(PoolOptions());
  StartWorkers(2, 2);
  Make();
  workers_[0]->SetGarbled(true);
  for (int i = 0; i < 3; ++i) ExpectSameAsLocal(0, 7, "answers of a wrong size");
  EXPECT_TRUE(observer_.Await("down 0"));
  EXPECT_EQ(observer_.Count("down 1"), 0);
}

TEST_F(PooledLayerTest, CutLinksDoNotShow) {
  MakePool(PoolOptions());
  StartWorkers(3, 3);
  Make();
  for (int i = 0; i < 30; ++i) {
    const RandomBatch batch = Batch(i % 2, 4);
    const std::vector<float> want = Sum(local_, batch, 1);
    std::vector<float> got(batch.sum_floats());
    ASSERT_TRUE(layer_->Begin(batch.At(++step_)).ok());
    const std::vector<LinkId> links = network_.links();
    if (!links.empty()) network_.Cut(links[random_() % links.size()]);
    const absl::Status status = layer_->Finish(got.data());
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_TRUE(SameSum(want, got));
  }
}

TEST_F(PooledLayerTest, GiveUpIsAskedWhileAnAnswerIsLate) {
  MakePool(PoolOptions());
  StartWorkers(1, 1);
  PooledExpertLayerOptions options = Patient();
  int asked = 0;
  bool workers_silent = false;
  options.give_up = [&] { return workers_silent && ++asked == 3; };
  Make(options);
  ExpectSameAsLocal(0, 2, "nobody waits long");
  workers_silent = true;
  workers_[0]->SetSilent(true);
  absl::Status status;
  Sum(*layer_, Batch(0, 2), 3, &status);
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(asked, 3);
  workers_[0]->SetSilent(false);
  workers_silent = false;
  ExpectSameAsLocal(1, 2, "the next batch");
}

TEST_F(PooledLayerTest, WithoutAnyAnswerTheLayerEndsAtTheBound) {
  MakePool(PoolOptions());
  StartWorkers(1, 1);
  PooledExpertLayerOptions options = Patient();
  options.machine.give_up_after = milliseconds(150);
  Make(options);
  workers_[0]->SetSilent(true);
  absl::Status status;
  Sum(*layer_, Batch(0, 2), 3, &status);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no answer for"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("asked: worker 0"));
}

TEST_F(PooledLayerTest, AWrongAnswerIsFoundAndTheRightOneUsed) {
  LinkPoolOptions pool = PoolOptions();
  pool.times.late_floor = seconds(20);  // a second answer that is late is not compared
  MakePool(pool);
  StartWorkers(3, 3);
  PooledExpertLayerOptions options = Patient();
  options.machine.verify_share = 1;
  Make(options);
  workers_[1]->SetLying(true);
  for (int i = 0; i < 4; ++i) ExpectSameAsLocal(i % 2, 3, "one lies, two do not");
  ASSERT_FALSE(wrong_.wrong.empty());
  for (const auto& wrong : wrong_.wrong) EXPECT_EQ(wrong.worker, WorkerId(1));
  EXPECT_EQ(wrong_.undecided, 0);
  const ExchangeTotals totals = layer_->TakeTotals();
  EXPECT_GT(totals.compared_pairs, totals.differing_pairs);
  EXPECT_GT(totals.differing_pairs, 0);
}

TEST_F(PooledLayerTest, OfTwoTheRefereeDecides) {
  LinkPoolOptions pool = PoolOptions();
  pool.times.late_floor = seconds(20);  // a second answer that is late is not compared
  MakePool(pool);
  StartWorkers(2, 2);
  PooledExpertLayerOptions options = Patient();
  options.machine.verify_share = 1;
  int called = 0;
  options.referee = [&](LayerId layer, ExpertId expert, const kernels::QuantizedRows& x,
                        std::span<const int32_t> rows, float* out) {
    ++called;
    kernels::ExpertScratch scratch;
    const kernels::ExpertJob job{experts_.weights(layer, expert), rows, out};
    kernels::RunExperts(pool_, x, {&job, 1}, scratch);
    return absl::OkStatus();
  };
  Make(options);
  workers_[0]->SetLying(true);
  for (int i = 0; i < 4; ++i) ExpectSameAsLocal(i % 2, 3, "one of two lies");
  EXPECT_GT(called, 0);
  ASSERT_FALSE(wrong_.wrong.empty());
  for (const auto& wrong : wrong_.wrong) EXPECT_EQ(wrong.worker, WorkerId(0));

  options.referee = nullptr;
  Make(options);
  Sum(*layer_, Batch(0, 3), 1);
  EXPECT_GT(wrong_.undecided, 0);
}

TEST_F(PooledLayerTest, TotalsCountBytesAndPairsOfEachWorker) {
  MakePool(PoolOptions());
  StartWorkers(7, 1);
  Make();
  // experts 0 1 2
  const RandomBatch batch(random_, LayerId(0), 10, kHidden, kExperts, kTopK, true);
  Sum(*layer_, batch, 1);
  const ExchangeTotals totals = layer_->TakeTotals();
  ASSERT_EQ(totals.workers.size(), 3u);
  for (const auto& worker : totals.workers) {
    EXPECT_EQ(worker.pairs, 10);
    EXPECT_EQ(worker.received_bytes, 64 + 10 * kHidden * 4);
    EXPECT_EQ(worker.sent_bytes, 64 + 10 * 3 * (256 + 4) + 8 + 10 * 4);
    EXPECT_EQ(worker.answers, 1);
    EXPECT_DOUBLE_EQ(worker.units, WorkOf(1, 10));
  }
  EXPECT_GT(totals.combine.count(), 0);
  EXPECT_TRUE(layer_->TakeTotals().workers.empty());
  const std::vector<uint32_t> counts = layer_->TakePairCounts();
  ASSERT_EQ(counts.size(), size_t(kLayers * kExperts));
  EXPECT_EQ(counts[0], 10u);
  EXPECT_EQ(counts[2], 10u);
  EXPECT_EQ(counts[3], 0u);
  EXPECT_EQ(layer_->TakePairCounts()[0], 0u);
}

TEST_F(PooledLayerTest, BeginBeforeFinishIsAnErrorAndHarmless) {
  MakePool(PoolOptions());
  StartWorkers(2, 1);
  Make();
  const RandomBatch batch = Batch(0, 3);
  ASSERT_TRUE(layer_->Begin(batch.At(1)).ok());
  EXPECT_EQ(layer_->Begin(batch.At(2)).code(), absl::StatusCode::kInternal);
  ExpectSameAsLocal(0, 3, "after");
}

}  // namespace
}  // namespace sheaf
