// The pool's lanes: what waits in one never holds up the other.
#include "router/api/generation/preparation_pool.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>

#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::seconds;

constexpr auto kOrdinary = PreparationLane::kOrdinary;
constexpr auto kGuided = PreparationLane::kGuided;

// A task that says when it begins and runs until it is released.
struct LongTask {
  std::promise<void> begin, release;
  std::shared_future<void> begun = begin.get_future().share();
  std::shared_future<void> released = release.get_future().share();

  std::function<void()> Work() {
    return [this] {
      begin.set_value();
      released.wait_for(seconds(10));
    };
  }
};

TEST(PreparationPool, OrdinaryTasksNeverWaitForGuidedOnes) {
  LongTask grammar;
  PreparationPool pool({.ordinary_threads = 1, .ordinary_capacity = 8, .guided_capacity = 2});
  ASSERT_TRUE(pool.TrySubmit(kGuided, grammar.Work()));
  ASSERT_EQ(grammar.begun.wait_for(seconds(10)), std::future_status::ready);
  std::atomic<bool> second_ran = false;
  ASSERT_TRUE(pool.TrySubmit(kGuided, [&] { second_ran = true; }));
  ASSERT_TRUE(pool.TrySubmit(kGuided, [] {}));
  EXPECT_FALSE(pool.TrySubmit(kGuided, [] {})) << "more than its capacity wait";
  std::promise<void> plain;
  ASSERT_TRUE(pool.TrySubmit(kOrdinary, [&] { plain.set_value(); }));
  EXPECT_EQ(plain.get_future().wait_for(seconds(10)), std::future_status::ready);
  EXPECT_FALSE(second_ran) << "two guided tasks at a time";
  grammar.release.set_value();
}

TEST(PreparationPool, GuidedTasksDoNotWaitForOrdinaryOnes) {
  LongTask prompt;
  PreparationPool pool({.ordinary_threads = 1, .ordinary_capacity = 1, .guided_capacity = 2});
  ASSERT_TRUE(pool.TrySubmit(kOrdinary, prompt.Work()));
  ASSERT_EQ(prompt.begun.wait_for(seconds(10)), std::future_status::ready);
  ASSERT_TRUE(pool.TrySubmit(kOrdinary, [] {}));
  EXPECT_FALSE(pool.TrySubmit(kOrdinary, [] {}));
  std::promise<void> guided;
  ASSERT_TRUE(pool.TrySubmit(kGuided, [&] { guided.set_value(); }));
  EXPECT_EQ(guided.get_future().wait_for(seconds(10)), std::future_status::ready);
  prompt.release.set_value();
}

TEST(PreparationPool, TasksMaySubmit) {
  std::promise<void> done;
  PreparationPool pool({.ordinary_threads = 1, .ordinary_capacity = 1, .guided_capacity = 1});
  ASSERT_TRUE(pool.TrySubmit(
      kOrdinary, [&] { EXPECT_TRUE(pool.TrySubmit(kGuided, [&] { done.set_value(); })); }));
  EXPECT_EQ(done.get_future().wait_for(seconds(10)), std::future_status::ready);
}

TEST(PreparationPool, LargeTasksNeverHoldAllThreads) {
  constexpr size_t kLarge = 1 << 20;
  LongTask first;
  PreparationPool pool({.ordinary_threads = 2, .ordinary_capacity = 8, .guided_capacity = 1});
  ASSERT_TRUE(pool.TrySubmit(kOrdinary, first.Work(), kLarge));
  ASSERT_EQ(first.begun.wait_for(seconds(10)), std::future_status::ready);
  std::promise<void> second;
  ASSERT_TRUE(pool.TrySubmit(kOrdinary, [&] { second.set_value(); }, kLarge));
  std::promise<void> small;
  ASSERT_TRUE(pool.TrySubmit(kOrdinary, [&] { small.set_value(); }, 10));
  EXPECT_EQ(small.get_future().wait_for(seconds(10)), std::future_status::ready);
  auto second_ran = second.get_future();
  EXPECT_EQ(second_ran.wait_for(seconds(0)), std::future_status::timeout);
  first.release.set_value();
  EXPECT_EQ(second_ran.wait_for(seconds(10)), std::future_status::ready);
}

TEST(PreparationPool, TheEndAwaitsWhatRunsAndKeepsNothing) {
  auto held = std::make_shared<std::atomic<int>>(0);
  LongTask grammar;
  std::atomic<bool> ended = false;
  {
    PreparationPool pool({.ordinary_threads = 1, .ordinary_capacity = 1, .guided_capacity = 8});
    ASSERT_TRUE(pool.TrySubmit(kGuided, [&, work = grammar.Work()] {
      work();
      ended = true;
    }));
    ASSERT_EQ(grammar.begun.wait_for(seconds(10)), std::future_status::ready);
    for (int i = 0; i < 8; ++i) ASSERT_TRUE(pool.TrySubmit(kGuided, [held] { ++*held; }));
    grammar.release.set_value();
  }
  EXPECT_TRUE(ended);
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace sheaf
