// Every expert has one holder, ranges are contiguous, and slices differ by at most one expert.

#include "router/cluster/placement.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace sheaf {
namespace {

TEST(Placement, EveryShapeIsCompleteContiguousAndBalanced) {
  for (const int experts : {1, 7, 96, 97, 120, 160, 192}) {
    for (const int workers : {1, 2, 3, 5, 8, 30}) {
      SCOPED_TRACE(std::to_string(experts) + " experts on " + std::to_string(workers) + " workers");
      const ModelIdentity model{.config_hash = 1,
                                .num_layers = 13,
                                .first_moe_layer = 2,
                                .num_experts = experts,
                                .hidden_size = 128};
      const ExpertPlacement placement = PlanPlacement(model, workers);
      std::vector<int> total(static_cast<size_t>(workers));
      for (int layer = 0; layer < 13; ++layer) {
        std::vector<int> count(static_cast<size_t>(workers));
        int last = 0;
        for (int expert = 0; expert < experts; ++expert) {
          const auto holders = placement.At(LayerId(layer), ExpertId(expert));
          if (layer < 2) {
            EXPECT_TRUE(holders.empty()) << "dense layers have no experts";
            continue;
          }
          ASSERT_EQ(holders.size(), 1u);
          EXPECT_GE(holders[0].value(), last) << "contiguous";
          last = holders[0].value();
          ASSERT_LT(last, workers);
          ++count[static_cast<size_t>(last)];
          ++total[static_cast<size_t>(last)];
        }
        EXPECT_LE(*std::max_element(count.begin(), count.end()) -
                      *std::min_element(count.begin(), count.end()),
                  1);
      }
      EXPECT_LE(*std::max_element(total.begin(), total.end()) -
                    *std::min_element(total.begin(), total.end()),
                1);
    }
  }
}

TEST(Placement, TheExampleOfTheHeader) {
  const ExpertPlacement placement = PlanPlacement({1, 3, 0, 7, 128}, 3);
  EXPECT_EQ(SliceOf(placement, WorkerId(0)),
            (std::vector<ExpertRangeOfLayer>{
                {LayerId(0), 0, 3}, {LayerId(1), 0, 2}, {LayerId(2), 0, 2}}));
  EXPECT_EQ(SliceOf(placement, WorkerId(2)),
            (std::vector<ExpertRangeOfLayer>{
                {LayerId(0), 5, 7}, {LayerId(1), 5, 7}, {LayerId(2), 4, 7}}));
}

TEST(Placement, MoreWorkersThanExpertsLeavesSomeWithNothingInALayer) {
  const ExpertPlacement placement = PlanPlacement({1, 2, 0, 2, 128}, 3);
  size_t ranges = 0;
  for (int worker = 0; worker < 3; ++worker) ranges += SliceOf(placement, WorkerId(worker)).size();
  EXPECT_EQ(ranges, 4u);
}

}  // namespace
}  // namespace sheaf
