#pragma once
// How the products of one loop are cut into items for the threads: row blocks (16 outputs; 4 of few
// rows of float weights) times chunks of rows. By shapes and thread count alone, so a bench can
// count what a machine of any size would be given (kernels/machine/scaling_bench.cc); bits never
// depend on it.
//
// Few rows   (up to kMaxTileRows) blocks alone are cut. An item is a stretch of weights, read once.
// More rows  an item of b blocks and r rows of k inputs reads 8 b k bytes of 4-bit weights and
//            2 r k of activations for 16 b r k multiply-adds, and converts its activations once for
//            each kSumBlocks blocks. So blocks come by kSumBlocks, and where that leaves too few
//            items rows are cut first, down to kLeastItemRows, then blocks. A matrix of 5120 x
//            12288 with 512 rows on 40 threads: 11 blocks x 48 rows, where cutting blocks first
//            gave 1 block x 171 rows, three times the bytes.
// Threads    pure.

#include <cstdint>

#include "kernels/linear/integer_piece.h"
#include "kernels/linear/packed_integers.h"

namespace sheaf::kernels {

// Outputs of a block. Few rows of float weights are computed four outputs at a time, so that a
// small matrix (the gate of a layer: 160 outputs) has work for many threads.
constexpr int BlockOutputs(bool float_weights, int num_rows) {
  return float_weights && num_rows <= kMaxTileRows ? 4 : kRowBlock;
}

// Items for each thread: enough that the slowest item at the end of the loop matters little.
inline constexpr int kItemsPerThread = 8;
// With few rows starting an item costs latency (8 blocks instead of 32: 7 % of a decode step at
// hidden 5120).
inline constexpr int kMaxItemBlocks = 32;
// Rows that share a reading of the weights from memory (kernels/linear/integer_piece.h).
inline constexpr int kLeastItemRows = 48;

struct ProductSplit {
  int item_blocks = 1;
  int item_rows = 1;
  int64_t row_items = 0;  // items that share their blocks: neighbours
  int64_t num_items = 0;
};

// Of a product of num_blocks > 0 row blocks and num_rows > 0 rows; loop_blocks: of all products of
// the loop, this one's among them.
ProductSplit SplitProduct(int num_blocks, int num_rows, int64_t loop_blocks, int num_threads);

}  // namespace sheaf::kernels
