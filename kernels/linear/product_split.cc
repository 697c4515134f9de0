#include "kernels/linear/product_split.h"

#include <algorithm>

namespace sheaf::kernels {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

ProductSplit SplitProduct(int num_blocks, int num_rows, int64_t loop_blocks, int num_threads) {
  const int64_t wanted = int64_t{kItemsPerThread} * num_threads;
  int64_t blocks = std::clamp<int64_t>(loop_blocks / wanted, 1, kMaxItemBlocks);
  int64_t rows = num_rows;
  if (num_rows > kMaxTileRows) {
    blocks = std::max<int64_t>(kSumBlocks, blocks / kSumBlocks * kSumBlocks);
    int64_t chunks = std::clamp<int64_t>(CeilDiv(wanted, CeilDiv(loop_blocks, blocks)), 1,
                                         std::max(1, num_rows / kLeastItemRows));
    if (chunks > 1) {
      // Whole tiles: a chunk of one row more would cost a tile more.
      const int64_t whole = CeilDiv(num_rows, chunks) / kMaxTileRows * kMaxTileRows;
      rows = std::max<int64_t>(kLeastItemRows, whole);
      chunks = CeilDiv(num_rows, rows);
    }
    if (CeilDiv(loop_blocks, blocks) * chunks < wanted)
      blocks = std::clamp<int64_t>(loop_blocks * chunks / wanted, 1, kSumBlocks);
  }
  ProductSplit split;
  split.item_blocks = static_cast<int>(blocks);
  split.item_rows = static_cast<int>(rows);
  split.row_items = CeilDiv(num_rows, rows);
  split.num_items = split.row_items * CeilDiv(num_blocks, blocks);
  return split;
}

}  // namespace sheaf::kernels
