#include "worker/device/batch_parts.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/check.h"

namespace sheaf {

std::vector<BatchPart> CutBatch(const ExpertBatch& batch, int most_rows, int most_pairs) {
  std::vector<int> pairs_of(static_cast<size_t>(batch.x.num_rows), 0);
  for (const HeldExpertJob& job : batch.jobs) {
    SHEAF_CHECK(std::is_sorted(job.rows.begin(), job.rows.end()), "the rows of a job ascend");
    for (const int32_t row : job.rows) ++pairs_of[static_cast<size_t>(row)];
  }
  std::vector<size_t> next(batch.jobs.size(), 0);  // of each job's rows
  std::vector<BatchPart> parts;
  for (int row = 0; row < batch.x.num_rows;) {
    BatchPart part;
    part.first_row = row;
    while (row < batch.x.num_rows && part.num_rows < most_rows) {
      const int pairs = pairs_of[static_cast<size_t>(row)];
      if (part.num_rows > 0 && part.num_pairs + pairs > most_pairs) break;
      SHEAF_CHECK(pairs <= most_pairs, "a part has room for all pairs of a token");
      part.num_pairs += pairs;
      ++part.num_rows;
      ++row;
    }
    for (size_t i = 0; i < batch.jobs.size(); ++i) {
      const std::span<const int32_t> rows = batch.jobs[i].rows;
      const size_t begin = next[i];
      while (next[i] < rows.size() && rows[next[i]] < row) ++next[i];
      if (next[i] > begin) {
        part.runs.push_back({static_cast<int>(i), static_cast<int>(begin),
                             static_cast<int>(next[i] - begin)});
      }
    }
    if (part.num_pairs > 0) parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace sheaf
