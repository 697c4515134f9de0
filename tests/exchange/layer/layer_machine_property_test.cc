// Random workers, random misfortune: every pair of a finished layer was answered exactly once by a
// holder, and no layer waits for ever.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "exchange/layer/layer_machine.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kLayers = 3;

struct Pending {
  TimePoint at;
  WorkerId worker;
  AskId id;
  std::vector<int32_t> experts;
  enum What { kCombine, kNotHeld, kError } what = kCombine;
};

class World {
 public:
  explicit World(uint64_t seed)
      : random_(seed),
        num_workers_(1 + Below(8)),
        num_experts_(1 + Below(24)),
        top_k_(1 + Below(std::min(num_experts_, 8))),
        table_(kLayers, 0, num_experts_),
        machine_(table_, times_, Options()) {
    holdings_.assign(size_t(num_workers_), Holdings(kLayers, num_experts_));
    linked_.assign(size_t(num_workers_), true);
    trouble_ = Below(5);
    for (int worker = 0; worker < num_workers_; ++worker) Announce(worker);
  }

  // False: a rule was broken (and a failure was added).
  void RunLayers(int count) {
    for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) RunLayer();
  }

 private:
  LayerMachineOptions Options() {
    LayerMachineOptions options;
    options.verify_share = Below(3) == 0 ? 0.3 : 0;
    options.max_owed_asks = Below(4);
    options.seed = random_();
    options.give_up_after = milliseconds(300 + Below(500));
    return options;
  }
  int Below(int bound) { return static_cast<int>(random_() % uint64_t(bound)); }

  void Announce(int worker) {
    Holdings& holdings = holdings_[size_t(worker)];
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int expert = 0; expert < num_experts_; ++expert) {
        holdings.Remove(LayerId(layer), ExpertId(expert));
        if (Below(10) < 6) holdings.Add(LayerId(layer), ExpertId(expert));
      }
    }
    if (linked_[size_t(worker)]) table_.SetHoldings(WorkerId(worker), holdings);
  }

  void Send() {
    Ask ask;
    while (machine_.NextAsk(ask)) {
      const auto worker = size_t(ask.worker.value());
      ASSERT_TRUE(linked_[worker]) << "asked over a lost link";
      std::vector<int32_t> experts;
      for (const ExpertRun& run : ask.plan->experts) {
        ASSERT_TRUE(table_.Holds(ask.worker, layer_, ExpertId(run.expert)));
        experts.push_back(run.expert);
      }
      if (Below(20) < trouble_) {
        machine_.NotSent(ask.id, now_);
        continue;
      }
      machine_.Sent(ask.id, now_);
      Pending pending{now_, ask.worker, ask.id, experts, Pending::kCombine};
      const int fate = Below(40);
      if (fate < trouble_) continue;  // it will never answer
      if (fate < 2 * trouble_) pending.what = Pending::kError;
      if (fate < 3 * trouble_ && fate >= 2 * trouble_) pending.what = Pending::kNotHeld;
      pending.at += milliseconds(Below(100) < 5 * trouble_ ? Below(400) : Below(5));
      pending_.push_back(pending);
    }
  }

  void Deliver(Pending pending) {
    if (!linked_[size_t(pending.worker.value())]) return;
    if (pending.what == Pending::kError) {
      machine_.Error(pending.worker, pending.id, "out of luck", now_);
      return;
    }
    if (pending.what == Pending::kNotHeld) {
      pending.experts.resize(1 + size_t(Below(int(pending.experts.size()))));
      machine_.NotHeld(pending.worker, pending.id, pending.experts, now_);
      return;
    }
    const Arrival arrival = machine_.Combine(pending.worker, pending.id, now_);
    if (arrival.plan == nullptr) return;
    size_t pair = 0;
    ASSERT_EQ(arrival.fresh.size(), arrival.plan->experts.size());
    for (size_t i = 0; i < arrival.fresh.size(); ++i) {
      const ExpertRun& run = arrival.plan->experts[i];
      for (int r = 0; r < run.num_rows; ++r, ++pair) {
        const int32_t slot = arrival.plan->slots[pair];
        ASSERT_EQ(ids_[size_t(slot)], run.expert);
        if (arrival.fresh[i]) {
          ASSERT_TRUE(answered_.insert(slot).second) << "slot " << slot << " twice";
        } else {
          ASSERT_TRUE(answered_.contains(slot));
        }
      }
    }
  }

  void Misfortune() {
    const int worker = Below(num_workers_);
    if (Below(3) == 0) {
      Announce(worker);
      if (linked_[size_t(worker)]) machine_.TableChanged(WorkerId(worker), now_);
    } else if (linked_[size_t(worker)]) {
      linked_[size_t(worker)] = false;
      std::erase_if(pending_, [&](const Pending& p) { return p.worker == WorkerId(worker); });
      table_.Remove(WorkerId(worker));
      machine_.LinkLost(WorkerId(worker), "cut", now_);
    } else {
      linked_[size_t(worker)] = true;
      table_.SetHoldings(WorkerId(worker), holdings_[size_t(worker)]);
      machine_.TableChanged(WorkerId(worker), now_);
    }
  }

  void RunLayer() {
    layer_ = LayerId(Below(kLayers));
    const int tokens = 1 + Below(12);
    ids_.clear();
    answered_.clear();
    for (int token = 0; token < tokens; ++token) {
      std::set<int32_t> experts;
      while (int(experts.size()) < top_k_) experts.insert(Below(num_experts_));
      ids_.insert(ids_.end(), experts.begin(), experts.end());
    }
    const TimePoint begun = now_;
    ASSERT_TRUE(machine_.Begin({layer_, tokens, top_k_, ids_.data()}, now_).ok());
    int events = 0;
    while (!machine_.done() && machine_.given_up().ok()) {
      Send();
      if (testing::Test::HasFatalFailure()) return;
      if (machine_.done() || !machine_.given_up().ok()) break;
      if (trouble_ > 0 && Below(30) < trouble_) {
        Misfortune();
        continue;
      }
      TimePoint next = machine_.WakeAt();
      const auto first = std::min_element(
          pending_.begin(), pending_.end(),
          [](const Pending& a, const Pending& b) { return a.at < b.at; });
      if (first != pending_.end() && first->at <= next) {
        const Pending pending = *first;
        pending_.erase(first);
        now_ = std::max(now_, pending.at);
        Deliver(pending);
        if (testing::Test::HasFatalFailure()) return;
      } else {
        now_ = std::max(now_, next);
        machine_.Tick(now_);
      }
      ASSERT_LT(++events, 100000) << "it never ends";
      // Progress moves the bound, once for each expert at most.
      ASSERT_LT(now_ - begun, seconds(2) * (num_experts_ + 2)) << "it waits for ever";
    }
    if (machine_.done() && machine_.given_up().ok()) {
      ASSERT_EQ(answered_.size(), ids_.size());
      ++finished_;
    }
    machine_.End(now_);
  }

  std::mt19937_64 random_;
  const int num_workers_;
  const int num_experts_;
  const int top_k_;
  ExpertTable table_;
  AnswerTimes times_;
  LayerMachine machine_;
  int trouble_ = 0;
  TimePoint now_{seconds(1000)};
  std::vector<Holdings> holdings_;
  std::vector<bool> linked_;
  std::vector<Pending> pending_;
  LayerId layer_;
  std::vector<int32_t> ids_;
  std::set<int32_t> answered_;

 public:
  int finished_ = 0;
};

TEST(LayerMachineProperty, FinishedLayersAreAnsweredOnceByHoldersAndNoneWaitsForEver) {
  const uint64_t seed = TestSeed();
  int finished = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    SCOPED_TRACE("seed " + std::to_string(seed + i));
    World world(seed + i);
    world.RunLayers(40);
    finished += world.finished_;
    if (HasFailure()) return;
  }
  EXPECT_GT(finished, 1000) << "too much misfortune to mean anything";
}

}  // namespace
}  // namespace sheaf
