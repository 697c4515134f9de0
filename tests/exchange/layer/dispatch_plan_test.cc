// Every (token, expert) pair is planned exactly once, with the worker that holds it, in the
// promised order.

#include "exchange/layer/dispatch_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "tests/exchange/random_experts.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using testing::ElementsAre;

TEST(DispatchPlan, TheExampleOfTheHeader) {
  const std::vector<WorkerId> holders = {WorkerId(0), WorkerId(0), WorkerId(1), WorkerId(1)};
  const int32_t ids[] = {0, 2, 2, 3, 0, 1};
  DispatchPlan plan;
  ASSERT_TRUE(PlanDispatch({LayerId(0), 3, 2, ids}, holders, {}, plan).ok());
  ASSERT_EQ(plan.workers().size(), 2u);
  const WorkerPlan& first = plan.workers()[0];
  EXPECT_EQ(first.worker, WorkerId(0));
  EXPECT_THAT(first.token_rows, ElementsAre(0, 2));
  EXPECT_THAT(first.experts, ElementsAre(ExpertRun{0, 2}, ExpertRun{1, 1}));
  EXPECT_THAT(first.rows, ElementsAre(0, 1, 1));
  EXPECT_THAT(first.slots, ElementsAre(0, 4, 5));
  const WorkerPlan& second = plan.workers()[1];
  EXPECT_THAT(second.token_rows, ElementsAre(0, 1));
  EXPECT_THAT(second.experts, ElementsAre(ExpertRun{2, 2}, ExpertRun{3, 1}));
  EXPECT_THAT(second.rows, ElementsAre(0, 1, 1));
  EXPECT_THAT(second.slots, ElementsAre(1, 2, 3));
}

struct RandomCase {
  int num_tokens, num_experts, num_workers, top_k;
  std::vector<int32_t> ids;
  std::vector<WorkerId> holders;
};

RandomCase MakeCase(std::mt19937_64& random) {
  RandomCase result;
  result.num_tokens = 1 + static_cast<int>(random() % 40);
  result.num_experts = 1 + static_cast<int>(random() % 30);
  result.num_workers = 1 + static_cast<int>(random() % 8);
  result.top_k =
      1 + static_cast<int>(random() % static_cast<uint64_t>(std::min(result.num_experts, 8)));
  for (int expert = 0; expert < result.num_experts; ++expert) {
    result.holders.emplace_back(
        static_cast<int32_t>(random() % static_cast<uint64_t>(result.num_workers)));
  }
  const RandomBatch batch(random, LayerId(1), result.num_tokens, 128, result.num_experts,
                          result.top_k);
  const int32_t* ids = batch.At(0).expert_ids;
  result.ids.assign(ids, ids + result.num_tokens * result.top_k);
  return result;
}

void CheckPlan(const RandomCase& given, const DispatchPlan& plan,
               const std::set<int32_t>& wanted_slots) {
  std::set<int32_t> seen;
  int32_t last_worker = -1;
  for (const WorkerPlan& worker : plan.workers()) {
    EXPECT_GT(worker.worker.value(), last_worker) << "workers ascend";
    last_worker = worker.worker.value();
    EXPECT_GT(worker.num_pairs(), 0);
    EXPECT_TRUE(std::is_sorted(worker.token_rows.begin(), worker.token_rows.end()));
    EXPECT_EQ(std::set(worker.token_rows.begin(), worker.token_rows.end()).size(),
              worker.token_rows.size());
    std::set<int32_t> used_rows(worker.rows.begin(), worker.rows.end());
    EXPECT_EQ(used_rows.size(), worker.token_rows.size()) << "no token travels for nothing";
    size_t pair = 0;
    int32_t last_expert = -1;
    for (const ExpertRun& run : worker.experts) {
      EXPECT_GT(run.expert, last_expert) << "experts ascend";
      last_expert = run.expert;
      EXPECT_EQ(given.holders[size_t(run.expert)], worker.worker);
      int32_t last_row = -1;
      for (int r = 0; r < run.num_rows; ++r, ++pair) {
        EXPECT_GT(worker.rows[pair], last_row) << "rows ascend within an expert";
        last_row = worker.rows[pair];
        const int32_t slot = worker.slots[pair];
        EXPECT_TRUE(seen.insert(slot).second) << "slot " << slot << " twice";
        EXPECT_EQ(given.ids[static_cast<size_t>(slot)], run.expert);
        EXPECT_EQ(worker.token_rows[static_cast<size_t>(worker.rows[pair])], slot / given.top_k);
      }
    }
    EXPECT_EQ(pair, worker.rows.size());
    EXPECT_EQ(pair, worker.slots.size());
  }
  EXPECT_EQ(seen, wanted_slots);
}

TEST(DispatchPlan, EveryPairOnceInOrder) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  DispatchPlan plan;  // reused: what an earlier batch left must not show
  for (int i = 0; i < 300; ++i) {
    const RandomCase given = MakeCase(random);
    ASSERT_TRUE(PlanDispatch({LayerId(1), given.num_tokens, given.top_k, given.ids.data()},
                             given.holders, {}, plan)
                    .ok());
    std::set<int32_t> all;
    for (int32_t slot = 0; slot < given.num_tokens * given.top_k; ++slot) all.insert(slot);
    CheckPlan(given, plan, all);
    if (HasFailure()) return;
  }
}

TEST(DispatchPlan, WhatIsDoneOrHasNoHolderIsLeftOut) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  DispatchPlan plan;
  for (int i = 0; i < 100; ++i) {
    RandomCase given = MakeCase(random);
    for (WorkerId& holder : given.holders) {
      if (random() % 3 == 0) holder = WorkerId(-1);
    }
    std::vector<uint8_t> done(given.ids.size());
    std::set<int32_t> wanted;
    for (size_t slot = 0; slot < done.size(); ++slot) {
      done[slot] = random() % 2;
      if (!done[slot] && given.holders[size_t(given.ids[slot])].value() >= 0)
        wanted.insert(static_cast<int32_t>(slot));
    }
    const Routes routes{LayerId(1), given.num_tokens, given.top_k, given.ids.data()};
    ASSERT_TRUE(PlanDispatch(routes, given.holders, done, plan).ok());
    CheckPlan(given, plan, wanted);
    if (HasFailure()) return;
  }
}

TEST(DispatchPlan, RefusesExpertsThatDoNotExist) {
  const std::vector<WorkerId> holders(4, WorkerId(0));
  DispatchPlan plan;
  const int32_t outside[] = {0, 4};
  const absl::Status status = PlanDispatch({LayerId(0), 1, 2, outside}, holders, {}, plan);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("expert 4 of 4"));
  const int32_t negative[] = {-1, 0};
  EXPECT_FALSE(PlanDispatch({LayerId(0), 1, 2, negative}, holders, {}, plan).ok());
}

}  // namespace
}  // namespace sheaf
