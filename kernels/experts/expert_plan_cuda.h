#pragma once
// What a device does for one batch of (expert, rows) jobs, written by the host and read by the
// kernels of kernels/experts/expert_ffn_cuda.cuh: jobs, rows and lists of tiles.
//
// ExpertBatchShape says how large a batch may be; plan and scratch memory follow from it, so that
// all sizes are known before anything is loaded and the same launches (a CUDA graph) serve every
// batch of the shape.
//
// Shapes     a tile is up to 16 or up to 64 rows of one job times 128 inner (gate and up) or 256
//            hidden (down) outputs. Jobs of 1..kFewRows rows go to the lists of few rows, others to
//            those of many.
// Ownership  a plan is bytes: a header, then arrays at the offsets of its layout. It holds device
//            pointers and no host ones.
// Threads    pure functions.
// Errors     INVALID_ARGUMENT: a batch beyond its shape, weights that are not of the shape's sizes.

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "kernels/linear/w4a16_cuda.h"

namespace sheaf::kernels::cuda {

inline constexpr int kFewRows = kTokens * kFewTiles;
inline constexpr int kManyRows = kTokens * kManyTiles;
inline constexpr int kInnerTile = kProductWarps * kRowBlock;       // 128
inline constexpr int kOutputTile = 2 * kProductWarps * kRowBlock;  // 256

// The routed expert: out = down(silu(gate x) * up x), with its tensors in a device's memory.
struct DeviceExpert {
  DeviceMatrix gate;  // [intermediate][hidden]
  DeviceMatrix up;    // [intermediate][hidden]
  DeviceMatrix down;  // [hidden][intermediate]
};

struct ExpertBatchShape {
  int hidden = 0;
  int intermediate = 0;
  int max_tokens = 0;  // rows of x
  int max_jobs = 0;
  int max_rows = 0;       // (row, expert) pairs
  bool permuted = false;  // whether any expert has a permutation
};

struct ExpertBatchJob {
  const DeviceExpert* expert = nullptr;
  std::span<const int32_t> rows;  // of x
};

enum PlanList {
  kReorderInput,
  kFewInner,
  kManyInner,
  kReorderInner,
  kFewOutput,
  kManyOutput,
  kPlanLists
};

struct PlannedTile {
  int32_t job = 0;
  int32_t chunk = 0;  // of outputs; of the lists kReorder..: 0 gate, 1 up, 2 down
  int32_t row = 0;    // the first, of the job's
};

struct PlannedJob {
  DeviceExpert expert;
  int32_t num_rows = 0;
  int32_t first_row = 0;  // of the plan's rows, of the inner rows and of out
  // Where the matrix's input is in rows of its own order, the first of the job's there; -1: not
  // permuted.
  int32_t gate_first = -1;
  int32_t up_first = -1;
  int32_t down_first = -1;
};

// The head of a plan. The host keeps a copy: what is to be launched.
struct PlanHead {
  int32_t tiles[kPlanLists] = {};
  int32_t num_jobs = 0;
  int32_t num_rows = 0;
  int32_t num_tokens = 0;
  int32_t part_bytes = 0;  // the largest part of any matrix
};

// The most that a plan of the shape may have whose jobs have no token twice, and no less than
// `like`, whose experts are as theirs: for launches that are to serve all of them, a CUDA graph's.
// Lists that are empty in every such plan are empty here.
PlanHead LargestHead(const ExpertBatchShape& shape, const PlanHead& like);
// Whether launches made for `larger` serve a plan with this head.
bool Covers(const PlanHead& larger, const PlanHead& head);

// Offsets in bytes from the plan's beginning, which is 256-byte aligned.
struct ExpertPlanLayout {
  explicit ExpertPlanLayout(const ExpertBatchShape& shape);
  size_t jobs = 0;  // PlannedJob[max_jobs]
  size_t rows = 0;  // int32_t[max_rows]
  size_t tiles[kPlanLists] = {};
  size_t bytes = 0;
};

// Offsets of a device's scratch memory, 256-byte aligned as it is.
struct ExpertScratchLayout {
  explicit ExpertScratchLayout(const ExpertBatchShape& shape);
  struct Rows {
    size_t planes = 0;
    size_t scales = 0;
    size_t sums = 0;
  };
  size_t input_sums = 0;  // of x, where they did not come along
  Rows inner;             // [max_rows], quantized silu(gate) * up
  Rows ordered_input;     // [2 max_rows], for permutations
  Rows ordered_inner;     // [max_rows]
  size_t bytes = 0;
};

// Writes the plan of a batch into `plan`, ExpertPlanLayout(shape).bytes of host memory.
absl::Status PlanExperts(const ExpertBatchShape& shape, int num_tokens,
                         std::span<const ExpertBatchJob> jobs, std::span<std::byte> plan,
                         PlanHead& head);

}  // namespace sheaf::kernels::cuda
