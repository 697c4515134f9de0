#include "kernels/linear/product_split.h"

#include <algorithm>
#include <random>

#include "gtest/gtest.h"
#include "kernels/linear/integer_piece.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels {
namespace {

TEST(ProductSplit, ByHand) {
  // o_proj of GLM-4.6: 5120 outputs are 320 blocks.
  const ProductSplit decode = SplitProduct(320, 1, 320, 2);
  EXPECT_EQ(decode.item_blocks, 20);  // 16 items
  EXPECT_EQ(decode.item_rows, 1);
  EXPECT_EQ(decode.num_items, 16);
  // 512 rows: enough blocks on 2 threads, and whole conversions.
  const ProductSplit two = SplitProduct(320, 512, 320, 2);
  EXPECT_EQ(two.item_blocks, 16);
  EXPECT_EQ(two.item_rows, 512);
  EXPECT_EQ(two.num_items, 20);
  // On 40 threads rows are cut to a reading of the weights, then blocks.
  const ProductSplit forty = SplitProduct(320, 512, 320, 40);
  EXPECT_EQ(forty.item_rows, 48);
  EXPECT_EQ(forty.row_items, 11);
  EXPECT_EQ(forty.item_blocks, 11);
  EXPECT_EQ(forty.num_items, 330);
  // The gate's 160 rows: 10 blocks alone would leave threads idle.
  EXPECT_GE(SplitProduct(10, 2048, 10, 16).num_items, 128);
}

TEST(ProductSplit, EveryOutputOnceAndEnoughItemsWhereThereAreAny) {
  std::mt19937 random(TestSeed());
  for (int i = 0; i < 20000; ++i) {
    const int num_blocks = 1 + static_cast<int>(random() % 1000);
    const int num_rows = 1 + static_cast<int>(random() % (random() % 2 == 0 ? 13 : 3000));
    const int64_t loop_blocks = num_blocks + static_cast<int64_t>(random() % 500);
    const int num_threads = 1 + static_cast<int>(random() % 130);
    SCOPED_TRACE(testing::Message() << num_blocks << " of " << loop_blocks << " blocks, "
                                    << num_rows << " rows, " << num_threads << " threads");
    const ProductSplit split = SplitProduct(num_blocks, num_rows, loop_blocks, num_threads);
    ASSERT_GE(split.item_blocks, 1);
    ASSERT_GE(split.item_rows, 1);
    ASSERT_LE(split.item_blocks, kMaxItemBlocks);
    const int64_t block_items = (num_blocks + split.item_blocks - 1) / split.item_blocks;
    ASSERT_EQ(split.row_items, (num_rows + split.item_rows - 1) / split.item_rows);
    ASSERT_EQ(split.num_items, block_items * split.row_items);
    if (split.row_items > 1) {  // chunks are whole tiles
      ASSERT_EQ(split.item_rows % kMaxTileRows, 0);
      ASSERT_GE(split.item_rows, kLeastItemRows);
    }
    // Fewer items than wanted only where nothing is left to cut.
    const int64_t loop_items =
        (loop_blocks + split.item_blocks - 1) / split.item_blocks * split.row_items;
    if (loop_items < int64_t{kItemsPerThread} * num_threads && split.item_blocks > 1) {
      ASSERT_GE(2 * loop_items, int64_t{kItemsPerThread} * num_threads);
    }
  }
}

}  // namespace
}  // namespace sheaf::kernels
