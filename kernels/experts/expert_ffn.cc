#include "kernels/experts/expert_ffn.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/linear/integer_product.h"
#include "kernels/vector/silu_mul.h"

namespace sheaf::kernels {
namespace {

constexpr int kGroupBlocks = kActivationGroup / kRowBlock;

bool IsPlainInteger(const Linear& linear) {
  return linear.is_integer() && linear.permutation() == nullptr;
}

bool IsPlainInteger(const ExpertWeights& weights) {
  return IsPlainInteger(weights.gate) && IsPlainInteger(weights.up) &&
         IsPlainInteger(weights.down);
}

// One expert of integer weights with its rows of the layer's inner activations.
struct PlainJob {
  const ExpertJob* job = nullptr;
  int first_inner_row = 0;
  int64_t first_item = 0;
};

const PlainJob& JobOfItem(std::span<const PlainJob> jobs, int64_t item) {
  const auto after =
      std::upper_bound(jobs.begin(), jobs.end(), item,
                       [](int64_t wanted, const PlainJob& job) { return wanted < job.first_item; });
  return *(after - 1);
}

// Inner activations [128 group .. 128 group + 128) of all rows of a job: the group is quantized
// while it is warm.
void RunInnerGroup(const PlainJob& plain, const QuantizedRows& x, int group,
                   QuantizedRowsBuffer& inner) {
  const ExpertWeights& weights = *plain.job->weights;
  const int intermediate = weights.gate.n();
  const int count = std::min(kActivationGroup, intermediate - group * kActivationGroup);
  const size_t groups = NumGroups(intermediate);
  const int num_rows = static_cast<int>(plain.job->rows.size());
  const int num_tiles = (num_rows + kMaxTileRows - 1) / kMaxTileRows;
  alignas(64) float gate[kMaxTileRows][kActivationGroup];
  alignas(64) float up[kMaxTileRows][kActivationGroup];
  IntegerPiece piece;
  piece.x = x;
  piece.rows = plain.job->rows.data();
  piece.block_begin = group * kGroupBlocks;
  piece.block_end = std::min(NumRowBlocks(intermediate), piece.block_begin + kGroupBlocks);
  piece.y_stride = kActivationGroup;
  for (int tile = 0; tile < num_tiles; ++tile) {
    piece.row_begin = static_cast<int>(int64_t{num_rows} * tile / num_tiles);
    piece.row_end = static_cast<int>(int64_t{num_rows} * (tile + 1) / num_tiles);
    piece.y = gate[0];
    MultiplyIntegers(weights.gate, piece);
    piece.y = up[0];
    MultiplyIntegers(weights.up, piece);
    for (int i = piece.row_begin; i < piece.row_end; ++i) {
      float* values = gate[i - piece.row_begin];
      SiluMul(values, up[i - piece.row_begin], count, values);
      const size_t at = groups * (plain.first_inner_row + i) + group;
      QuantizeRow(values, count, inner.planes() + kGroupBytes * at, inner.scales() + at,
                  inner.sums() + kSumsPerGroup * at);
    }
  }
}

void RunDown(const PlainJob& plain, const QuantizedRows& inner, int chunk) {
  const Linear& down = plain.job->weights->down;
  IntegerPiece piece;
  piece.x = inner;
  piece.row_begin = plain.first_inner_row;
  piece.row_end = plain.first_inner_row + static_cast<int>(plain.job->rows.size());
  piece.block_begin = chunk * kGroupBlocks;
  piece.block_end = std::min(NumRowBlocks(down.n()), piece.block_begin + kGroupBlocks);
  piece.y = plain.job->out + chunk * kActivationGroup;
  piece.y_stride = down.n();
  MultiplyIntegers(down, piece);
}

void RunPlainJobs(ThreadPool& pool, const QuantizedRows& x, std::span<PlainJob> jobs,
                  QuantizedRowsBuffer& inner) {
  if (jobs.empty()) return;
  const int intermediate = jobs[0].job->weights->gate.n();
  const int hidden = x.k;
  int num_rows = 0;
  int64_t num_items = 0;
  for (PlainJob& plain : jobs) {
    SHEAF_CHECK(plain.job->weights->gate.n() == intermediate,
                "the experts of a layer have one shape");
    plain.first_inner_row = num_rows;
    plain.first_item = num_items;
    num_rows += static_cast<int>(plain.job->rows.size());
    num_items += NumGroups(intermediate);
  }
  inner.Resize(num_rows, intermediate);
  const int64_t product = int64_t{num_rows} * hidden * intermediate;
  pool.ParallelFor(num_items, CostOfMultiplyAdds(2 * product / num_items), [&](int64_t item, int) {
    const PlainJob& plain = JobOfItem(jobs, item);
    RunInnerGroup(plain, x, static_cast<int>(item - plain.first_item), inner);
  });

  num_items = 0;
  for (PlainJob& plain : jobs) {
    plain.first_item = num_items;
    num_items += NumGroups(plain.job->weights->down.n());
  }
  const QuantizedRows inner_rows = inner.view();
  pool.ParallelFor(num_items, CostOfMultiplyAdds(product / num_items), [&](int64_t item, int) {
    const PlainJob& plain = JobOfItem(jobs, item);
    RunDown(plain, inner_rows, static_cast<int>(item - plain.first_item));
  });
}

// Experts with float weights or permuted inputs, one after the other through
// kernels/linear/linear.h.
void RunOtherJob(ThreadPool& pool, const QuantizedRows& x, const ExpertJob& job,
                 ExpertScratch& scratch) {
  const ExpertWeights& weights = *job.weights;
  const size_t groups = x.groups();
  const size_t num_rows = job.rows.size();
  QuantizedRowsBuffer& gathered = scratch.gathered;
  gathered.Resize(static_cast<int>(num_rows), x.k);
  for (size_t i = 0; i < num_rows; ++i) {
    const int row = job.rows[i];
    std::copy_n(x.row_planes(row), kGroupBytes * groups, gathered.row_planes(i));
    std::copy_n(x.row_scales(row), groups, gathered.row_scales(i));
    std::copy_n(x.row_sums(row), kSumsPerGroup * groups, gathered.row_sums(i));
  }
  Activations input;
  input.num_rows = static_cast<int>(num_rows);
  input.k = x.k;
  input.quantized = gathered.view();
  const size_t intermediate = weights.gate.n();
  scratch.inner.resize(2 * num_rows * intermediate);
  float* gate = scratch.inner.data();
  float* up = gate + num_rows * intermediate;
  const LinearCall first[] = {{&weights.gate, &input, gate, static_cast<ptrdiff_t>(intermediate)},
                              {&weights.up, &input, up, static_cast<ptrdiff_t>(intermediate)}};
  RunLinears(pool, first);
  const ItemCost activation = CostOfElements(2 * static_cast<int64_t>(intermediate));
  pool.ParallelFor(static_cast<int64_t>(num_rows), activation, [&](int64_t row, int) {
    float* values = gate + row * intermediate;
    SiluMul(values, up + row * intermediate, intermediate, values);
  });
  Activations inner;
  inner.num_rows = static_cast<int>(num_rows);
  inner.k = static_cast<int>(intermediate);
  inner.floats = gate;
  const LinearCall second[] = {{&weights.down, &inner, job.out, weights.down.n()}};
  RunLinears(pool, second);
}

}  // namespace

void RunExperts(ThreadPool& pool, const QuantizedRows& x, std::span<const ExpertJob> jobs,
                ExpertScratch& scratch) {
  std::vector<PlainJob> plain;
  plain.reserve(jobs.size());
  for (const ExpertJob& job : jobs) {
    if (!job.rows.empty() && IsPlainInteger(*job.weights)) plain.push_back({.job = &job});
  }
  RunPlainJobs(pool, x, plain, scratch.inner_quantized);
  for (const ExpertJob& job : jobs) {
    if (!job.rows.empty() && !IsPlainInteger(*job.weights)) RunOtherJob(pool, x, job, scratch);
  }
}

}  // namespace sheaf::kernels
