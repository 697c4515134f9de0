#pragma once
// The kernels of kernels/experts/expert_ffn_cuda.h. Each is persistent: a grid of any size works
// through a list of the plan, block b taking tiles b, b + blocks, ...
//
// Numbers    kernels/experts/expert_ffn.h, bit by bit; a NaN is 0x7fc00000.
// Threads    kProductThreads a block; shared memory ring.shared_bytes().

#include "kernels/cuda/device.h"
#include "kernels/experts/expert_plan_cuda.h"
#include "kernels/linear/quantized_rows_cuda.cuh"
#include "kernels/linear/w4a16_cuda.cuh"
#include "kernels/vector/silu_mul_cuda.cuh"

namespace sheaf::kernels::cuda {

// What every kernel of a batch is given: device pointers.
struct ExpertBatchView {
  const PlanHead* head = nullptr;
  const PlannedJob* jobs = nullptr;
  const int32_t* rows = nullptr;
  const PlannedTile* tiles[kPlanLists] = {};
  DeviceRows x;
  DeviceRows inner;
  DeviceRows ordered_input;
  DeviceRows ordered_inner;
  float* out = nullptr;  // [pairs][hidden]
};

SHEAF_DEVICE float AddBias(float value, const float* bias, int index) {
  return bias == nullptr ? value : Add(value, bias[index]);
}

// Rows of a job for a matrix whose ordered rows begin at `ordered`.
SHEAF_DEVICE TileRows InputRows(const ExpertBatchView& batch, const PlannedJob& job,
                                int32_t ordered, int row, int tile_rows) {
  TileRows x;
  const int left = job.num_rows - row;
  x.count = left < tile_rows ? left : tile_rows;
  if (ordered >= 0) {
    x.rows = batch.ordered_input;
    x.first = ordered + row;
  } else {
    x.rows = batch.x;
    x.list = batch.rows;
    x.first = job.first_row + row;
  }
  return x;
}

// 128 inner activations of a tile of rows: silu(gate x) * up x, quantized.
template <int kTiles>
SHEAF_KERNEL(kProductThreads, kTiles <= kFewTiles ? 2 : 1)
RunInnerTiles(ExpertBatchView batch, PlanList list, RingShape ring) {
  const int warp = ThreadIndex() / kWarpLanes, lane = ThreadIndex() % kWarpLanes;
  const int g = lane / 4, t = lane % 4;
  const int num_tiles = batch.head->tiles[list];
  for (int index = BlockIndex(); index < num_tiles; index += GridBlocks()) {
    const PlannedTile tile = batch.tiles[list][index];
    const PlannedJob& job = batch.jobs[tile.job];
    const DeviceMatrix& gate = job.expert.gate;
    const DeviceMatrix& up = job.expert.up;
    float acc[2][kTiles][4] = {};
    int block = tile.chunk * kProductWarps + warp;
    if (block >= NumRowBlocks(gate.n)) block = -1;
    // Gate and up together where they read the same bytes, else one after the other.
    const bool together = job.gate_first == job.up_first && gate.segment == up.segment;
    TileRows x;
    for (int pass = together ? 1 : 0; pass < 2; ++pass) {
      const RowBlock blocks[2] = {{&gate, together || pass == 0 ? block : -1},
                                  {&up, pass == 1 ? block : -1}};
      x = InputRows(batch, job, pass == 0 ? job.gate_first : job.up_first, tile.row,
                    ring.tile_rows);
      MultiplyPair<kTiles>(blocks, pass == 0 ? gate.segment : up.segment, x, ring, acc);
    }
    // The ring is empty: its memory takes the tile's values.
    float* values = reinterpret_cast<float*>(SharedMemory());
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) {
      const int token = i / 4 * kTokens + 2 * t + i % 2;
      const int at = warp * kRowBlock + g + i % 4 / 2 * 8;
      const int output = tile.chunk * kInnerTile + at;
      if (token >= x.count) continue;
      values[ValueAt(token, at)] =
          output < gate.n ? SiluMul(AddBias(acc[0][i / 4][i % 4], gate.bias, output),
                                    AddBias(acc[1][i / 4][i % 4], up.bias, output))
                          : 0.0f;
    }
    SyncBlock();
    for (int token = warp; token < x.count; token += kProductWarps) {
      float mine[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) mine[j] = values[ValueAt(token, InputOfLane(lane, j))];
      QuantizeGroup(mine, lane, batch.inner, job.first_row + tile.row + token, tile.chunk);
    }
    SyncBlock();  // the next tile's copies overwrite the values
  }
}

// 256 outputs of a tile of rows: down of the inner rows.
template <int kTiles>
SHEAF_KERNEL(kProductThreads, kTiles <= kFewTiles ? 2 : 1)
RunOutputTiles(ExpertBatchView batch, PlanList list, RingShape ring) {
  const int warp = ThreadIndex() / kWarpLanes, lane = ThreadIndex() % kWarpLanes;
  const int g = lane / 4, t = lane % 4;
  const int num_tiles = batch.head->tiles[list];
  for (int index = BlockIndex(); index < num_tiles; index += GridBlocks()) {
    const PlannedTile tile = batch.tiles[list][index];
    const PlannedJob& job = batch.jobs[tile.job];
    const DeviceMatrix& down = job.expert.down;
    const int row_blocks = NumRowBlocks(down.n);
    float acc[2][kTiles][4] = {};
    const int block = (tile.chunk * kProductWarps + warp) * 2;
    const RowBlock blocks[2] = {{&down, block < row_blocks ? block : -1},
                                {&down, block + 1 < row_blocks ? block + 1 : -1}};
    const bool ordered = job.down_first >= 0;
    const int left = job.num_rows - tile.row;
    TileRows x;
    x.rows = ordered ? batch.ordered_inner : batch.inner;
    x.first = (ordered ? job.down_first : job.first_row) + tile.row;
    x.count = left < ring.tile_rows ? left : ring.tile_rows;
    MultiplyPair<kTiles>(blocks, down.segment, x, ring, acc);
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) {
      const int token = i / 4 * kTokens + 2 * t + i % 2;
      if (token >= x.count) continue;
      float* out = batch.out + int64_t{job.first_row + tile.row + token} * down.n;
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const int output = (block + m) * kRowBlock + g + i % 4 / 2 * 8;
        if (output >= down.n) continue;
        const float value = AddBias(acc[m][i / 4][i % 4], down.bias, output);
        out[output] = value == value ? value : BitsToFloat(kNanBits);
      }
    }
  }
}

// Rows in the order of a permutation: of x for gate and up, of the inner rows for down. One row a
// block.
SHEAF_KERNEL(kProductThreads, 1) ReorderRows(ExpertBatchView batch, PlanList list) {
  const int warp = ThreadIndex() / kWarpLanes, lane = ThreadIndex() % kWarpLanes;
  const int num_tiles = batch.head->tiles[list];
  for (int index = BlockIndex(); index < num_tiles; index += GridBlocks()) {
    const PlannedTile tile = batch.tiles[list][index];
    const PlannedJob& job = batch.jobs[tile.job];
    const bool is_inner = list == kReorderInner;
    const DeviceMatrix& w = is_inner          ? job.expert.down
                            : tile.chunk == 0 ? job.expert.gate
                                              : job.expert.up;
    const DeviceRows& from = is_inner ? batch.inner : batch.x;
    const DeviceRows& to = is_inner ? batch.ordered_inner : batch.ordered_input;
    const int from_row = is_inner ? job.first_row + tile.row : batch.rows[job.first_row + tile.row];
    const int to_first = is_inner          ? job.down_first
                         : tile.chunk == 0 ? job.gate_first
                                           : job.up_first;
    for (int group = warp; group < to.groups; group += kProductWarps) {
      ReorderGroup(from, from_row, w.permutation, w.k, to, to_first + tile.row, group, lane);
    }
  }
}

}  // namespace sheaf::kernels::cuda
