// Whole plays on the queue's order: shares in the long run, and what a long queue costs.

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "router/schedule/queue/fair_order.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

constexpr Duration kSecond = std::chrono::seconds(1);

SequenceId Id(uint64_t id) { return SequenceId(id); }

// Steps of a machine with some slots: every sequence that runs gets one token a step.
class Machine {
 public:
  Machine(std::mt19937_64& random, int slots) : random_(random), slots_(slots) {}

  void Submit(const std::string& key, int prompt, int output) {
    order_.Add({Id(++last_), 0, key, last_, prompt}, Now());
    jobs_[last_] = {key, prompt, output};
  }
  void Step() {
    ++step_;
    for (const SequenceId id : order_.Peek(slots_ - static_cast<int>(running_.size()), Now())) {
      order_.Take(id, Now());
      running_.push_back(id.value());
    }
    std::erase_if(running_, [&](uint64_t id) {
      Job& job = jobs_.at(id);
      const int tokens = job.prompt > 0 ? std::exchange(job.prompt, 0) : 1;
      order_.Ran(Id(id), tokens, true);
      served[job.key] += tokens;
      if (--job.output > 0) return false;
      order_.Forget(Id(id));
      --open[job.key];
      jobs_.erase(id);
      return true;
    });
  }
  int64_t waiting() const { return order_.waiting().sequences; }
  // Submits random requests until the key has so many.
  void FillUp(const std::string& key, int count) {
    for (int& has = open[key]; has < count; ++has) {
      Submit(key, 1 + static_cast<int>(random_() % 60), 1 + static_cast<int>(random_() % 40));
    }
  }

  std::map<std::string, int64_t> served;
  std::map<std::string, int> open;

 private:
  struct Job {
    std::string key;
    int prompt, output;
  };
  TimePoint Now() const { return TimePoint(std::chrono::milliseconds(10 * step_)); }

  std::mt19937_64& random_;
  const int slots_;
  FairOrder order_;
  int64_t step_ = 0;
  uint64_t last_ = 0;
  std::map<uint64_t, Job> jobs_;
  std::vector<uint64_t> running_;
};

double Jain(const std::map<std::string, int64_t>& served) {
  double sum = 0, squares = 0;
  for (const auto& [key, tokens] : served) {
    sum += static_cast<double>(tokens);
    squares += static_cast<double>(tokens) * static_cast<double>(tokens);
  }
  return sum * sum / (static_cast<double>(served.size()) * squares);
}

TEST(FairOrderPlay, TwoKeysGetTheSameThoughOneHasTenTimesTheRequests) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Machine machine(random, 16);
  for (int i = 0; i < 4000; ++i) {
    machine.FillUp("many", 300);
    machine.FillUp("few", 30);
    machine.Step();
  }
  EXPECT_GE(Jain(machine.served), 0.999);
  EXPECT_GT(machine.served["few"], 20000);
}

TEST(FairOrderPlay, OneRequestAtATimeNeverWaitsForManyOfAnother) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Machine machine(random, 16);
  int longest = 0, waited = 0, answered = 0;
  for (int i = 0; i < 4000; ++i) {
    machine.FillUp("crowd", 1000);
    if (machine.open["one"] == 0) {
      machine.Submit("one", 5, 1);
      machine.open["one"] = 1;
      ++answered;
      waited = 0;
    }
    machine.Step();
    longest = std::max(longest, ++waited);
  }
  // A slot becomes free every few steps, and it is the next to take one.
  EXPECT_LE(longest, 40);
  EXPECT_GT(answered, 500);
}

TEST(FairOrderPlay, ALotOfKeysShareAndNoneStarves) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Machine machine(random, 16);
  for (int i = 0; i < 10000; ++i) {
    for (int key = 0; key < 20; ++key) machine.FillUp(std::to_string(key), 3 * (1 + key));
    machine.Step();
  }
  EXPECT_GE(Jain(machine.served), 0.99);
}

int64_t CpuNanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// CPU time of the same work with so many waiting.
int64_t WorkWith(int waiting, int keys) {
  FairOrder order;
  TimePoint now{kSecond};
  uint64_t last = 0;
  const auto add = [&] {
    ++last;
    order.Add({Id(last), static_cast<int32_t>(last % 3), std::to_string(last % keys), last, 10},
              now);
  };
  while (order.waiting().sequences < waiting) add();
  int64_t best = INT64_MAX;
  for (int round = 0; round < 7; ++round) {
    const int64_t begin = CpuNanoseconds();
    for (int i = 0; i < 200; ++i) {
      now += std::chrono::milliseconds(10);
      const SequenceId id = order.Peek(8, now).front();
      order.Take(id, now);
      order.Ran(id, 10, true);
      order.Ran(id, 1, true);
      order.Forget(id);
      add();
    }
    best = std::min(best, CpuNanoseconds() - begin);
  }
  return best;
}

TEST(FairOrderCost, IsNotOfTheLengthOfTheQueue) {
  // A hundred times as long: a look at each would be a hundred times the work.
  EXPECT_LT(WorkWith(10000, 50), 20 * WorkWith(100, 50));
  EXPECT_LT(WorkWith(10000, 5000), 20 * WorkWith(100, 50));
}

}  // namespace
}  // namespace sheaf
