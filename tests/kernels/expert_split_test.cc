#include "kernels/experts/expert_split.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/linear/product_split.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels {
namespace {

int64_t Items(const ExpertSplit& split, const std::vector<int>& rows, int num_outputs) {
  int64_t items = 0;
  for (const int count : rows)
    items += int64_t{split.row_chunks(count)} * ((num_outputs + 127) / 128) * split.parts();
  return items;
}

TEST(ExpertSplit, ByHand) {
  // A token of GLM-4.6: one row of 8 experts, 1536 inner activations.
  const std::vector<int> token(8, 1);
  EXPECT_EQ(SplitExperts(token, 1536, 2).item_outputs, 128);
  EXPECT_EQ(SplitExperts(token, 1536, 24).item_outputs, 128);  // 96 items
  EXPECT_EQ(SplitExperts(token, 1536, 25).item_outputs, 64);
  EXPECT_EQ(SplitExperts(token, 1536, 64).item_outputs, 32);
  EXPECT_EQ(SplitExperts(token, 1536, 1000).item_outputs, 16);
  // A worker with one expert that everybody wants: its rows are cut before its outputs.
  const std::vector<int> busy = {512};
  const ExpertSplit split = SplitExperts(busy, 1536, 16);
  EXPECT_EQ(split.item_outputs, 128);
  EXPECT_EQ(split.item_rows, 72);
  EXPECT_EQ(Items(split, busy, 1536), 96);
  // Nothing is cut that need not be.
  EXPECT_EQ(SplitExperts(std::vector<int>(96, 43), 1536, 16).item_rows, 43);
}

TEST(ExpertSplit, EnoughItemsWhereThereAreAny) {
  std::mt19937 random(TestSeed());
  for (int i = 0; i < 5000; ++i) {
    std::vector<int> rows(1 + random() % 20);
    for (int& count : rows) count = 1 + static_cast<int>(random() % 600);
    const int num_outputs = 1 + static_cast<int>(random() % 6000);
    const int num_threads = 1 + static_cast<int>(random() % 200);
    const ExpertSplit split = SplitExperts(rows, num_outputs, num_threads);
    ASSERT_EQ(split.parts() * split.item_outputs, 128);
    const bool cut_all = split.item_outputs == 16 && split.item_rows <= kLeastItemRows;
    if (!cut_all) {
      ASSERT_GE(Items(split, rows, num_outputs), int64_t{kExpertItemsPerThread} * num_threads);
    }
  }
}

}  // namespace
}  // namespace sheaf::kernels
