#pragma once
// How a loop over the experts of a layer is cut into items for the threads: some outputs of one
// expert times some of its rows. By shapes and thread count alone; bits never depend on it.
//
// An item is 128 outputs (an activation group, which is quantized while it is warm) with all rows
// of the expert, as long as that makes kExpertItemsPerThread items a thread. Where it does not,
// rows are cut first, down to kLeastItemRows (kernels/linear/product_split.h), then outputs, down
// to a row block: one row of 8 experts with 1536 inner activations is 96 items of 128 outputs, too
// few from 25 threads on.
//
// Threads    pure.

#include <cstdint>
#include <span>

namespace sheaf::kernels {

inline constexpr int kExpertItemsPerThread = 4;

struct ExpertSplit {
  int item_outputs = 128;  // 128, 64, 32 or 16
  int item_rows = 1;

  int row_chunks(int num_rows) const { return (num_rows + item_rows - 1) / item_rows; }
  // Of one group of 128 outputs.
  int parts() const { return 128 / item_outputs; }
};

// job_rows: of each expert, all > 0; num_outputs: of each of them.
ExpertSplit SplitExperts(std::span<const int> job_rows, int num_outputs, int num_threads);

}  // namespace sheaf::kernels
