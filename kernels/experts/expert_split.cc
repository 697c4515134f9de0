#include "kernels/experts/expert_split.h"

#include <algorithm>

#include "base/round_up.h"
#include "kernels/linear/integer_piece.h"
#include "kernels/linear/packed_integers.h"
#include "kernels/linear/product_split.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels {

ExpertSplit SplitExperts(std::span<const int> job_rows, int num_outputs, int num_threads) {
  static_assert(kActivationGroup == 128);
  const int64_t wanted = int64_t{kExpertItemsPerThread} * num_threads;
  const int64_t groups = static_cast<int64_t>(NumGroups(num_outputs));
  ExpertSplit split;
  for (const int rows : job_rows) split.item_rows = std::max(split.item_rows, rows);
  const auto items = [&] {
    int64_t count = 0;
    for (const int rows : job_rows) count += split.row_chunks(rows) * groups * split.parts();
    return count;
  };
  while (items() < wanted && split.item_rows > kLeastItemRows) {
    split.item_rows =
        std::max(kLeastItemRows, static_cast<int>(RoundUp(split.item_rows / 2, kMaxTileRows)));
  }
  while (items() < wanted && split.item_outputs > kRowBlock) split.item_outputs /= 2;
  return split;
}

}  // namespace sheaf::kernels
