#include "kernels/experts/expert_plan_cuda.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace sheaf::kernels::cuda {
namespace {

constexpr size_t kAlignment = 256;

size_t Take(size_t& end, size_t bytes) {
  const size_t at = end;
  end += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

int Ceil(int value, int unit) { return (value + unit - 1) / unit; }

int PartBytesOf(const DeviceMatrix& w) {
  return PartBytes(w.segment, w.scale_format, w.zeros != nullptr);
}

absl::Status CheckMatrix(const DeviceMatrix& w, int n, int k, const char* name) {
  if (w.n != n || w.k != k) {
    return absl::InvalidArgumentError(absl::StrCat("an expert's ", name, " is [", w.n, "][", w.k,
                                                   "], wanted [", n, "][", k, "]"));
  }
  if (w.segment != 32 && w.segment != 64 && w.segment != 128) {
    return absl::InvalidArgumentError(
        absl::StrCat("an expert's ", name, " has segments of ", w.segment));
  }
  return absl::OkStatus();
}

absl::Status CheckExpert(const DeviceExpert& expert, const ExpertBatchShape& shape) {
  absl::Status status = CheckMatrix(expert.gate, shape.intermediate, shape.hidden, "gate");
  if (status.ok()) status = CheckMatrix(expert.up, shape.intermediate, shape.hidden, "up");
  if (status.ok()) status = CheckMatrix(expert.down, shape.hidden, shape.intermediate, "down");
  const bool permuted = expert.gate.permutation != nullptr || expert.up.permutation != nullptr ||
                        expert.down.permutation != nullptr;
  if (status.ok() && permuted && !shape.permuted) {
    return absl::InvalidArgumentError("an expert with a permutation in a batch planned without");
  }
  return status;
}

// A plan under construction.
class Writer {
 public:
  Writer(const ExpertBatchShape& shape, std::span<std::byte> plan, PlanHead& head)
      : shape_(shape), layout_(shape), plan_(plan), head_(head) {}

  size_t bytes() const { return layout_.bytes; }

  void AddJob(const ExpertBatchJob& job) {
    PlannedJob planned;
    planned.expert = *job.expert;
    planned.num_rows = static_cast<int32_t>(job.rows.size());
    planned.first_row = head_.num_rows;
    const DeviceMatrix& gate = job.expert->gate;
    const DeviceMatrix& up = job.expert->up;
    const DeviceMatrix& down = job.expert->down;
    if (gate.permutation != nullptr) planned.gate_first = AddOrderedInput(planned, 0);
    if (up.permutation != nullptr) {
      planned.up_first =
          up.permutation == gate.permutation ? planned.gate_first : AddOrderedInput(planned, 1);
    }
    if (down.permutation != nullptr) {
      planned.down_first = planned.first_row;
      for (int row = 0; row < planned.num_rows; ++row) AddTile(kReorderInner, 2, row);
    }
    const bool few = planned.num_rows <= kFewRows;
    AddTiles(few ? kFewInner : kManyInner, planned, Ceil(shape_.intermediate, kInnerTile));
    AddTiles(few ? kFewOutput : kManyOutput, planned, Ceil(shape_.hidden, kOutputTile));
    for (const DeviceMatrix* w : {&gate, &up, &down}) {
      head_.part_bytes = std::max<int32_t>(head_.part_bytes, PartBytesOf(*w));
    }
    Put(layout_.jobs + sizeof(PlannedJob) * head_.num_jobs, &planned, sizeof(planned));
    Put(layout_.rows + sizeof(int32_t) * head_.num_rows, job.rows.data(), job.rows.size_bytes());
    ++head_.num_jobs;
    head_.num_rows += planned.num_rows;
  }

  void Finish() { Put(0, &head_, sizeof(head_)); }

 private:
  void Put(size_t at, const void* from, size_t bytes) {
    std::memcpy(plan_.data() + at, from, bytes);
  }

  void AddTile(PlanList list, int chunk, int row) {
    const PlannedTile tile = {.job = head_.num_jobs, .chunk = chunk, .row = row};
    Put(layout_.tiles[list] + sizeof(tile) * head_.tiles[list]++, &tile, sizeof(tile));
  }

  // Tiles of the same weights follow each other: the second finds them in the cache.
  void AddTiles(PlanList list, const PlannedJob& job, int chunks) {
    const int rows = list == kFewInner || list == kFewOutput ? kFewRows : kManyRows;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      for (int row = 0; row < job.num_rows; row += rows) AddTile(list, chunk, row);
    }
  }

  int32_t AddOrderedInput(const PlannedJob& job, int matrix) {
    for (int row = 0; row < job.num_rows; ++row) AddTile(kReorderInput, matrix, row);
    const int32_t first = ordered_rows_;
    ordered_rows_ += job.num_rows;
    return first;
  }

  const ExpertBatchShape& shape_;
  const ExpertPlanLayout layout_;
  const std::span<std::byte> plan_;
  PlanHead& head_;
  int32_t ordered_rows_ = 0;
};

using TileCounts = std::array<size_t, kPlanLists>;

TileCounts MostTiles(const ExpertBatchShape& shape) {
  const size_t inner = Ceil(shape.intermediate, kInnerTile);
  const size_t outputs = Ceil(shape.hidden, kOutputTile);
  const size_t few = std::min(shape.max_jobs, shape.max_rows);
  // Of a job with more than kFewRows rows, at most one tile is not full.
  const size_t many = Ceil(shape.max_rows, kManyRows) + shape.max_rows / (kFewRows + 1);
  const size_t ordered = shape.permuted ? shape.max_rows : 0;
  return {2 * ordered, few * inner, many * inner, ordered, few * outputs, many * outputs};
}

}  // namespace

PlanHead LargestHead(const ExpertBatchShape& shape, const PlanHead& like) {
  PlanHead head;
  const TileCounts counts = MostTiles(shape);
  for (int list = 0; list < kPlanLists; ++list) {
    head.tiles[list] = static_cast<int32_t>(counts[static_cast<size_t>(list)]);
  }
  if (shape.max_tokens <= kFewRows) head.tiles[kManyInner] = head.tiles[kManyOutput] = 0;
  head.num_jobs = shape.max_jobs;
  head.num_rows = shape.max_rows;
  head.num_tokens = shape.max_tokens;
  for (int list = 0; list < kPlanLists; ++list) {
    head.tiles[list] = std::max(head.tiles[list], like.tiles[list]);
  }
  head.part_bytes = like.part_bytes;
  return head;
}

bool Covers(const PlanHead& larger, const PlanHead& head) {
  for (int list = 0; list < kPlanLists; ++list) {
    if (head.tiles[list] > larger.tiles[list]) return false;
  }
  return head.num_jobs <= larger.num_jobs && head.num_rows <= larger.num_rows &&
         head.num_tokens <= larger.num_tokens && head.part_bytes <= larger.part_bytes;
}

ExpertPlanLayout::ExpertPlanLayout(const ExpertBatchShape& shape) {
  Take(bytes, sizeof(PlanHead));
  jobs = Take(bytes, sizeof(PlannedJob) * shape.max_jobs);
  rows = Take(bytes, sizeof(int32_t) * shape.max_rows);
  const TileCounts counts = MostTiles(shape);
  for (int list = 0; list < kPlanLists; ++list) {
    tiles[list] = Take(bytes, sizeof(PlannedTile) * counts[static_cast<size_t>(list)]);
  }
}

ExpertScratchLayout::ExpertScratchLayout(const ExpertBatchShape& shape) {
  const auto take_rows = [&](size_t num_rows, int k) {
    const size_t groups = num_rows * NumGroups(k);
    Rows rows;
    rows.planes = Take(bytes, 2 * kActivationGroup * groups);
    rows.scales = Take(bytes, sizeof(float) * groups);
    rows.sums = Take(bytes, sizeof(int32_t) * kSumsPerGroup * groups);
    return rows;
  };
  input_sums = Take(bytes, sizeof(int32_t) * kSumsPerGroup * NumGroups(shape.hidden) *
                               static_cast<size_t>(shape.max_tokens));
  inner = take_rows(shape.max_rows, shape.intermediate);
  if (!shape.permuted) return;
  ordered_input = take_rows(2 * static_cast<size_t>(shape.max_rows), shape.hidden);
  ordered_inner = take_rows(shape.max_rows, shape.intermediate);
}

absl::Status PlanExperts(const ExpertBatchShape& shape, int num_tokens,
                         std::span<const ExpertBatchJob> jobs, std::span<std::byte> plan,
                         PlanHead& head) {
  head = {};
  Writer writer(shape, plan, head);
  size_t num_rows = 0, num_jobs = 0;
  for (const ExpertBatchJob& job : jobs) {
    if (job.rows.empty()) continue;
    ++num_jobs;
    num_rows += job.rows.size();
    for (int32_t row : job.rows) {
      if (row < 0 || row >= num_tokens) {
        return absl::InvalidArgumentError(
            absl::StrCat("a job names row ", row, " of ", num_tokens));
      }
    }
    if (absl::Status status = CheckExpert(*job.expert, shape); !status.ok()) return status;
  }
  if (plan.size() < writer.bytes() || num_jobs > static_cast<size_t>(shape.max_jobs) ||
      num_rows > static_cast<size_t>(shape.max_rows) || num_tokens > shape.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a batch of ", num_jobs, " experts, ", num_rows, " pairs, ", num_tokens,
        " tokens, planned for ", shape.max_jobs, ", ", shape.max_rows, ", ", shape.max_tokens));
  }
  head.num_tokens = num_tokens;
  for (const ExpertBatchJob& job : jobs) {
    if (!job.rows.empty()) writer.AddJob(job);
  }
  writer.Finish();
  return absl::OkStatus();
}

}  // namespace sheaf::kernels::cuda
