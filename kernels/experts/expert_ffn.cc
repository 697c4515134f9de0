#include "kernels/experts/expert_ffn.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/check.h"
#include "kernels/experts/expert_split.h"
#include "kernels/linear/integer_product.h"
#include "kernels/vector/silu_mul.h"

namespace sheaf::kernels {
namespace {

bool IsPlainInteger(const Linear& linear) {
  return linear.is_integer() && linear.permutation() == nullptr;
}

// One expert of integer weights with its rows of the layer's inner activations.
struct PlainJob {
  const ExpertJob* job = nullptr;
  int num_rows = 0;
  int first_inner_row = 0;
  int64_t first_item = 0;
};

const PlainJob& JobOfItem(std::span<const PlainJob> jobs, int64_t item) {
  const auto after =
      std::upper_bound(jobs.begin(), jobs.end(), item,
                       [](int64_t wanted, const PlainJob& job) { return wanted < job.first_item; });
  return *(after - 1);
}

// What an item computes: outputs [128 group + begin, 128 group + end) of rows [row_begin, row_end)
// of a job.
struct Area {
  int row_begin = 0;
  int row_end = 0;
  int group = 0;
  int begin = 0;
  int end = 0;

  int first_output() const { return group * kActivationGroup + begin; }
  bool empty() const { return begin >= end; }
};

// The jobs of a loop over `num_outputs` outputs of each, cut into items: by row chunks, then groups
// of outputs, then parts of a group.
class Items {
 public:
  Items(std::span<PlainJob> jobs, int num_outputs, int num_threads)
      : jobs_(jobs), num_outputs_(num_outputs), groups_(static_cast<int>(NumGroups(num_outputs))) {
    std::vector<int> rows;
    rows.reserve(jobs.size());
    for (const PlainJob& plain : jobs) rows.push_back(plain.num_rows);
    split_ = SplitExperts(rows, num_outputs, num_threads);
    for (PlainJob& plain : jobs) {
      plain.first_item = count_;
      count_ += int64_t{split_.row_chunks(plain.num_rows)} * groups_ * split_.parts();
    }
  }

  int64_t count() const { return count_; }
  int parts() const { return split_.parts(); }
  const PlainJob& JobOf(int64_t item) const { return JobOfItem(jobs_, item); }

  Area AreaOf(const PlainJob& plain, int64_t item) const {
    int64_t at = item - plain.first_item;
    const int part = static_cast<int>(at % parts());
    at /= parts();
    Area area;
    area.group = static_cast<int>(at % groups_);
    area.row_begin = static_cast<int>(at / groups_) * split_.item_rows;
    area.row_end = std::min(plain.num_rows, area.row_begin + split_.item_rows);
    const int group_outputs =
        std::min(kActivationGroup, num_outputs_ - area.group * kActivationGroup);
    area.begin = part * split_.item_outputs;
    area.end = std::min(group_outputs, area.begin + split_.item_outputs);
    return area;
  }

 private:
  std::span<PlainJob> jobs_;
  int num_outputs_;
  int groups_;
  ExpertSplit split_;
  int64_t count_ = 0;
};

void SetBlocks(IntegerPiece& piece, const Area& area) {
  piece.block_begin = area.first_output() / kRowBlock;
  piece.block_end = piece.block_begin + NumRowBlocks(area.end - area.begin);
}

// silu(gate) * up of an item, in tiles of rows: take(row, values) gets each row of the job while it
// is warm.
template <typename Take>
void RunInner(const PlainJob& plain, const QuantizedRows& x, const Area& area, const Take& take) {
  const ExpertWeights& weights = *plain.job->weights;
  const int num_rows = area.row_end - area.row_begin;
  const int num_tiles = (num_rows + kMaxTileRows - 1) / kMaxTileRows;
  alignas(64) float gate[kMaxTileRows][kActivationGroup];
  alignas(64) float up[kMaxTileRows][kActivationGroup];
  IntegerPiece piece;
  piece.x = x;
  piece.rows = plain.job->rows.data();
  SetBlocks(piece, area);
  piece.y_stride = kActivationGroup;
  for (int tile = 0; tile < num_tiles; ++tile) {
    piece.row_begin = area.row_begin + static_cast<int>(int64_t{num_rows} * tile / num_tiles);
    piece.row_end = area.row_begin + static_cast<int>(int64_t{num_rows} * (tile + 1) / num_tiles);
    piece.y = gate[0];
    MultiplyIntegers(weights.gate, piece);
    piece.y = up[0];
    MultiplyIntegers(weights.up, piece);
    for (int i = piece.row_begin; i < piece.row_end; ++i) {
      float* values = gate[i - piece.row_begin];
      SiluMul(values, up[i - piece.row_begin], area.end - area.begin, values);
      take(i, values);
    }
  }
}

// The inner activations of all jobs, quantized. Where a group is several items, they leave their
// floats in `scratch`, and the last of them to end quantizes the group.
void RunAllInner(ThreadPool& pool, const QuantizedRows& x, const Items& items, int intermediate,
                 ItemCost cost, int num_rows, ExpertScratch& scratch) {
  QuantizedRowsBuffer& inner = scratch.inner_quantized;
  inner.Resize(num_rows, intermediate, x.bits);
  const size_t groups = NumGroups(intermediate);
  const auto quantize = [&](int inner_row, int group, const float* values) {
    const int count = std::min(kActivationGroup, intermediate - group * kActivationGroup);
    const size_t at = groups * inner_row + group;
    QuantizeRow(x.bits, values, count, inner.planes() + GroupBytes(x.bits) * at,
                inner.scales() + ScalesPerGroup(x.bits) * at, inner.sums() + kSumsPerGroup * at);
  };
  if (items.parts() == 1) {
    pool.ParallelFor(items.count(), cost, [&](int64_t item, int) {
      const PlainJob& plain = items.JobOf(item);
      const Area area = items.AreaOf(plain, item);
      RunInner(plain, x, area, [&](int row, const float* values) {
        quantize(plain.first_inner_row + row, area.group, values);
      });
    });
    return;
  }
  scratch.inner.resize(static_cast<size_t>(num_rows) * intermediate);
  scratch.parts_done.assign(items.count() / items.parts(), 0);
  const auto floats_of = [&](int inner_row) {
    return scratch.inner.data() + static_cast<size_t>(inner_row) * intermediate;
  };
  pool.ParallelFor(items.count(), cost, [&](int64_t item, int) {
    const PlainJob& plain = items.JobOf(item);
    const Area area = items.AreaOf(plain, item);
    if (!area.empty()) {
      RunInner(plain, x, area, [&](int row, const float* values) {
        std::copy_n(values, area.end - area.begin,
                    floats_of(plain.first_inner_row + row) + area.first_output());
      });
    }
    // Release: the floats above; acquire, in whoever comes last: everybody's.
    std::atomic_ref<int> done(scratch.parts_done[item / items.parts()]);
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < items.parts()) return;
    for (int row = area.row_begin; row < area.row_end; ++row) {
      const int inner_row = plain.first_inner_row + row;
      quantize(inner_row, area.group, floats_of(inner_row) + area.group * kActivationGroup);
    }
  });
}

void RunDown(const PlainJob& plain, const QuantizedRows& inner, const Area& area) {
  if (area.empty()) return;
  const Linear& down = plain.job->weights->down;
  IntegerPiece piece;
  piece.x = inner;
  piece.row_begin = plain.first_inner_row + area.row_begin;
  piece.row_end = plain.first_inner_row + area.row_end;
  SetBlocks(piece, area);
  piece.y_stride = down.n();
  piece.y = plain.job->out + area.row_begin * piece.y_stride + area.first_output();
  MultiplyIntegers(down, piece);
}

void RunPlainJobs(ThreadPool& pool, const QuantizedRows& x, std::span<PlainJob> jobs,
                  ExpertScratch& scratch) {
  if (jobs.empty()) return;
  // The largest first: what a loop begins last should be small.
  std::stable_sort(jobs.begin(), jobs.end(),
                   [](const PlainJob& a, const PlainJob& b) { return a.num_rows > b.num_rows; });
  const int intermediate = jobs[0].job->weights->gate.n();
  const int hidden = x.k;
  int num_rows = 0;
  for (PlainJob& plain : jobs) {
    SHEAF_CHECK(plain.job->weights->gate.n() == intermediate,
                "the experts of a layer have one shape");
    plain.first_inner_row = num_rows;
    num_rows += plain.num_rows;
  }
  const int64_t product = int64_t{num_rows} * hidden * intermediate;
  {
    const Items items(jobs, intermediate, pool.num_threads());
    RunAllInner(pool, x, items, intermediate, CostOfMultiplyAdds(2 * product / items.count()),
                num_rows, scratch);
  }
  const Items items(jobs, jobs[0].job->weights->down.n(), pool.num_threads());
  const QuantizedRows inner_rows = scratch.inner_quantized.view();
  pool.ParallelFor(items.count(), CostOfMultiplyAdds(product / items.count()),
                   [&](int64_t item, int) {
                     const PlainJob& plain = items.JobOf(item);
                     RunDown(plain, inner_rows, items.AreaOf(plain, item));
                   });
}

// Experts with float weights or permuted inputs, one after the other through
// kernels/linear/linear.h.
void RunOtherJob(ThreadPool& pool, const QuantizedRows& x, const ExpertJob& job,
                 ExpertScratch& scratch) {
  const ExpertWeights& weights = *job.weights;
  const size_t num_rows = job.rows.size();
  QuantizedRowsBuffer& gathered = scratch.gathered;
  gathered.Resize(static_cast<int>(num_rows), x.k, x.bits);
  for (size_t i = 0; i < num_rows; ++i) {
    const int row = job.rows[i];
    std::copy_n(x.row_planes(row), x.row_bytes(), gathered.row_planes(i));
    std::copy_n(x.row_scales(row), x.scales_a_row(), gathered.row_scales(i));
    std::copy_n(x.row_sums(row), x.sums_a_row(), gathered.row_sums(i));
  }
  Activations input;
  input.num_rows = static_cast<int>(num_rows);
  input.k = x.k;
  input.quantized = gathered.view();
  const size_t intermediate = weights.gate.n();
  scratch.gate_and_up.resize(2 * num_rows * intermediate);
  float* gate = scratch.gate_and_up.data();
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
  inner.quantized.bits = x.bits;
  const LinearCall second[] = {{&weights.down, &inner, job.out, weights.down.n()}};
  RunLinears(pool, second);
}

}  // namespace

bool RunsWithOthers(const ExpertWeights& weights) {
  return IsPlainInteger(weights.gate) && IsPlainInteger(weights.up) && IsPlainInteger(weights.down);
}

void RunExperts(ThreadPool& pool, const QuantizedRows& x, std::span<const ExpertJob> jobs,
                ExpertScratch& scratch) {
  std::vector<PlainJob> plain;
  plain.reserve(jobs.size());
  for (const ExpertJob& job : jobs) {
    if (!job.rows.empty() && RunsWithOthers(*job.weights))
      plain.push_back({.job = &job, .num_rows = static_cast<int>(job.rows.size())});
  }
  RunPlainJobs(pool, x, plain, scratch);
  for (const ExpertJob& job : jobs) {
    if (!job.rows.empty() && !RunsWithOthers(*job.weights)) RunOtherJob(pool, x, job, scratch);
  }
}

}  // namespace sheaf::kernels
