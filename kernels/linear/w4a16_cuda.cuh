#pragma once
// The 4-bit product on a device: a block's 8 warps, two row blocks each, times a tile of rows of
// activations.
//
// Numbers    kernels/linear/linear.h, bit by bit: exact sums of a segment by tensor cores (unsigned
//            codes times the two signed planes; the zero times the sum of the inputs taken off),
//            one fused multiply-add a segment in ascending order. No sum is split over warps or
//            blocks, so a result depends on its row and the weights alone.
// Memory     the weights are read once a tile of rows, by asynchronous copies stages - 1 groups
//            ahead.
// Threads    all threads of a block call MultiplyPair together. Lane 4 g + t ends with the sums of
//            rows g and g + 8 of its warp's two row blocks for tokens 2 t and 2 t + 1 of each
//            tensor-core tile, in the order of d.

#include "kernels/cuda/device.h"
#include "kernels/linear/quantized_rows_cuda.cuh"
#include "kernels/linear/w4a16_cuda.h"

namespace sheaf::kernels::cuda {

// A warp's share of a matrix: one row block of 16 outputs.
struct RowBlock {
  const DeviceMatrix* matrix = nullptr;
  int32_t block = -1;  // -1: none, the warp has nothing to do here
};

// The rows of activations of a tile: list[first + i] of `rows`, or first + i where there is no
// list.
struct TileRows {
  DeviceRows rows;
  const int32_t* list = nullptr;
  int32_t first = 0;
  int32_t count = 0;  // 1..kTokens x tiles
};

// What a lane copies of a row block: 16 bytes of each half of the codes and, the first lanes, of
// scales and zeros.
struct PartReader {
  const uint8_t* codes = nullptr;
  const uint8_t* rest = nullptr;
  int32_t rest_stride = 0;

  SHEAF_DEVICE void Start(const RowBlock& of, int lane) {
    if (of.block < 0) return;
    const DeviceMatrix& w = *of.matrix;
    const int64_t groups = NumGroups(w.k);
    const int segments = kActivationGroup / w.segment;
    const int scale_bytes = segments * kRowBlock * static_cast<int>(ScaleBytes(w.scale_format));
    const int zero_bytes = w.zeros == nullptr ? 0 : segments * kRowBlock;
    codes = w.codes + of.block * groups * kTileBytes + 16 * lane;
    const int at = 16 * lane;
    if (at < scale_bytes) {
      rest = w.scales + of.block * groups * scale_bytes + at;
      rest_stride = scale_bytes;
    } else if (at < scale_bytes + zero_bytes) {
      rest = w.zeros + of.block * groups * zero_bytes + (at - scale_bytes);
      rest_stride = zero_bytes;
    }
  }

  // The next group into `to`, the lane's place in a part.
  SHEAF_DEVICE void Copy(unsigned char* to) {
    if (codes != nullptr) {
      CopyAsync16(to, codes);
      CopyAsync16(to + kTileBytes / 2, codes + kTileBytes / 2);
      codes += kTileBytes;
    }
    if (rest != nullptr) {
      CopyAsync16(to + kTileBytes, rest);
      rest += rest_stride;
    }
  }
};

// What a lane copies of the tile's rows, one of each 8 being its warp's: lanes 0..15 planes, 16 the
// sums, 17 the scale. Rows that the tile has not are not copied: whatever lies there is multiplied
// into sums that nobody takes.
template <int kTiles>
struct RowReader {
  const unsigned char* from[kTiles];
  int32_t stride = 0;

  SHEAF_DEVICE void Start(const TileRows& x, int warp, int lane) {
    stride = lane < 16 ? kGroupBytes : lane == 16 ? 16 : 4;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      from[i] = nullptr;
      const int at = i * kTokens + warp;
      if (at >= x.count || lane > 17) continue;
      const int64_t row = x.list == nullptr ? x.first + at : x.list[x.first + at];
      const unsigned char* base =
          lane < 16    ? reinterpret_cast<const unsigned char*>(x.rows.planes) + 16 * lane
          : lane == 16 ? reinterpret_cast<const unsigned char*>(x.rows.sums)
                       : reinterpret_cast<const unsigned char*>(x.rows.scales);
      from[i] = base + row * x.rows.groups * stride;
    }
  }

  // The next group into `to`, the lane's place in the warp's first row.
  SHEAF_DEVICE void Copy(unsigned char* to, int lane) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (from[i] == nullptr) continue;
      if (lane < 17) {
        CopyAsync16(to + i * kTokens * kTokenBytes, from[i]);
      } else {
        CopyAsync4(to + i * kTokens * kTokenBytes, from[i]);
      }
      from[i] += stride;
    }
  }
};

// Leaves `leave` groups of copies under way.
SHEAF_DEVICE void WaitForCopies(int leave) {
  switch (leave) {
    case 0:
      return CopyAsyncWait<0>();
    case 1:
      return CopyAsyncWait<1>();
    case 2:
      return CopyAsyncWait<2>();
    case 3:
      return CopyAsyncWait<3>();
    case 4:
      return CopyAsyncWait<4>();
    case 5:
      return CopyAsyncWait<5>();
    default:
      return CopyAsyncWait<6>();
  }
}

// By selection: a branch on the format would stand before every scale.
SHEAF_DEVICE float ScaleOfPart(const unsigned char* scales, ScaleFormat format, int index) {
  const bool wide = format == ScaleFormat::kF32;
  const uint16_t* at = reinterpret_cast<const uint16_t*>(scales) + (wide ? 2 * index : index);
  const uint32_t bits = at[0];
  const uint32_t high = wide ? at[1] : bits;
  const float as_float = BitsToFloat(high << 16 | (wide ? bits : 0u));
  return format == ScaleFormat::kF16 ? HalfToFloat(static_cast<uint16_t>(bits)) : as_float;
}

// A row block's group in shared memory, as a lane sees it.
struct PartView {
  const unsigned char* part = nullptr;
  ScaleFormat format = ScaleFormat::kF16;
  bool zeros = false;
  bool present = false;
};

struct alignas(16) Words4 {
  uint32_t x[4];
};
struct alignas(8) Words2 {
  uint32_t x[2];
};

// Modulo 2^32, as everything up to a segment's sum: what belongs to no row may be anything.
template <int kSegment>
SHEAF_DEVICE uint32_t SumOfSegment(const Words4& sums, int segment) {
  if constexpr (kSegment == 128) {
    return sums.x[0] + sums.x[1] + sums.x[2] + sums.x[3];
  } else if constexpr (kSegment == 64) {
    return segment == 0 ? sums.x[0] + sums.x[1] : sums.x[2] + sums.x[3];
  } else {
    return sums.x[segment];
  }
}

// One group: acc[m][tile][i] takes the group's segments in order, for the first kUsed tiles that
// begin below `count`.
template <int kTiles, int kUsed, int kSegment>
SHEAF_DEVICE void MultiplyGroup(const PartView (&views)[2], const unsigned char* tokens, int count,
                                int lane, float (&acc)[2][kTiles][4]) {
  constexpr int kSegments = kActivationGroup / kSegment;
  constexpr int kSteps = kSegment / 32;
  const int g = lane / 4, t = lane % 4;
  uint32_t words[2][8];
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Words4 four =
          *reinterpret_cast<const Words4*>(views[m].part + half * (kTileBytes / 2) + 16 * lane);
#pragma unroll
      for (int j = 0; j < 4; ++j) words[m][half * 4 + j] = four.x[j];
    }
  }
#pragma unroll
  for (int segment = 0; segment < kSegments; ++segment) {
    float weight_scale[2][2];
    uint32_t zero[2][2];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const unsigned char* scales = views[m].part + kTileBytes;
      const unsigned char* zeros =
          scales + kSegments * kRowBlock * (views[m].format == ScaleFormat::kF32 ? 4 : 2);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int index = segment * kRowBlock + g + 8 * r;
        weight_scale[m][r] = ScaleOfPart(scales, views[m].format, index);
        zero[m][r] = views[m].zeros ? zeros[index] : PackedIntegers<4>::kSymmetricZero;
      }
    }
#pragma unroll
    for (int tile = 0; tile < kUsed; ++tile) {
      if (kUsed > kFewTiles && tile * kTokens >= count) break;
      int32_t high[2][4], low[2][4];
      const unsigned char* token = tokens + (tile * kTokens + g) * kTokenBytes + 8 * t;
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const int step = segment * kSteps + i;
        const Words2 b_high = *reinterpret_cast<const Words2*>(token + 32 * step);
        const Words2 b_low = *reinterpret_cast<const Words2*>(token + kActivationGroup + 32 * step);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const uint32_t w0 = words[m][2 * step], w1 = words[m][2 * step + 1];
          const uint32_t a[4] = {w0 & 0x0f0f0f0fu, w1 & 0x0f0f0f0fu, w0 >> 4 & 0x0f0f0f0fu,
                                 w1 >> 4 & 0x0f0f0f0fu};
          if (i == 0) {
            MultiplyFirstTile(high[m], a, b_high.x[0], b_high.x[1]);
            MultiplyFirstTile(low[m], a, b_low.x[0], b_low.x[1]);
          } else {
            MultiplyTile(high[m], a, b_high.x[0], b_high.x[1]);
            MultiplyTile(low[m], a, b_low.x[0], b_low.x[1]);
          }
        }
      }
      float x_scale[2];
      uint32_t sum[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const unsigned char* of = tokens + (tile * kTokens + 2 * t + c) * kTokenBytes;
        sum[c] =
            SumOfSegment<kSegment>(*reinterpret_cast<const Words4*>(of + SumsAt(2 * t)), segment);
        x_scale[c] = *reinterpret_cast<const float*>(of + ScaleAt(2 * t));
      }
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint32_t total = 256u * static_cast<uint32_t>(high[m][i]) +
                                 static_cast<uint32_t>(low[m][i]) - zero[m][i / 2] * sum[i % 2];
          const float scale = Multiply(weight_scale[m][i / 2], x_scale[i % 2]);
          const float next =
              FusedMultiplyAdd(IntToFloat(static_cast<int32_t>(total)), scale, acc[m][tile][i]);
          acc[m][tile][i] = views[m].present ? next : acc[m][tile][i];
        }
      }
    }
  }
}

// acc += both row blocks times the tile. Shared memory is the ring's; all threads have left it on
// return.
template <int kTiles, int kUsed, int kSegment>
SHEAF_DEVICE void MultiplyPairOf(const RowBlock (&blocks)[2], const TileRows& x,
                                 const RingShape& ring, float (&acc)[2][kTiles][4]) {
  const int warp = ThreadIndex() / kWarpLanes, lane = ThreadIndex() % kWarpLanes;
  const int groups = x.rows.groups;
  const int stage_bytes = ring.stage_bytes();
  const int tokens_at = 2 * kProductWarps * ring.part_bytes;
  unsigned char* const shared = SharedMemory();
  unsigned char* const parts = shared + 2 * warp * ring.part_bytes;
  const int in_row = lane < 16 ? 16 * lane : lane == 16 ? SumsAt(warp) : ScaleAt(warp);
  unsigned char* const my_row = shared + tokens_at + warp * kTokenBytes + in_row;
  RowReader<kUsed> rows;
  rows.Start(x, warp, lane);
  PartReader readers[2];
  PartView views[2];
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    readers[m].Start(blocks[m], lane);
    views[m].present = blocks[m].block >= 0;
    views[m].format = blocks[m].matrix->scale_format;
    views[m].zeros = blocks[m].matrix->zeros != nullptr;
  }
  const auto copy_group = [&](int stage_at) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      readers[m].Copy(parts + stage_at + m * ring.part_bytes + 16 * lane);
    }
    rows.Copy(my_row + stage_at, lane);
  };
  for (int group = 0; group < ring.stages - 1; ++group) {
    if (group < groups) copy_group(group * stage_bytes);
    CopyAsyncCommit();
  }
  // Bytes from the ring's beginning: of the group's stage, and of the one that has been left.
  int stage_at = 0, free_at = (ring.stages - 1) * stage_bytes;
  for (int group = 0; group < groups; ++group) {
    WaitForCopies(ring.stages - 2);
    SyncBlock();  // the group has landed for all, and all have left the stage that is copied to
    if (group + ring.stages - 1 < groups) copy_group(free_at);
    CopyAsyncCommit();
#pragma unroll
    for (int m = 0; m < 2; ++m) views[m].part = parts + stage_at + m * ring.part_bytes;
    MultiplyGroup<kTiles, kUsed, kSegment>(views, shared + stage_at + tokens_at, x.count, lane,
                                           acc);
    free_at = stage_at;
    stage_at = stage_at + stage_bytes == ring.stages * stage_bytes ? 0 : stage_at + stage_bytes;
  }
  WaitForCopies(0);
  SyncBlock();
}

template <int kTiles, int kSegment>
SHEAF_DEVICE void MultiplyPairOfSegment(const RowBlock (&blocks)[2], const TileRows& x,
                                        const RingShape& ring, float (&acc)[2][kTiles][4]) {
  if constexpr (kTiles <= kFewTiles) {
    if (x.count <= kTokens) return MultiplyPairOf<kTiles, 1, kSegment>(blocks, x, ring, acc);
  }
  MultiplyPairOf<kTiles, kTiles, kSegment>(blocks, x, ring, acc);
}

template <int kTiles>
SHEAF_DEVICE void MultiplyPair(const RowBlock (&blocks)[2], int segment, const TileRows& x,
                               const RingShape& ring, float (&acc)[2][kTiles][4]) {
  if (segment == 128) return MultiplyPairOfSegment<kTiles, 128>(blocks, x, ring, acc);
  if (segment == 64) return MultiplyPairOfSegment<kTiles, 64>(blocks, x, ring, acc);
  MultiplyPairOfSegment<kTiles, 32>(blocks, x, ring, acc);
}

}  // namespace sheaf::kernels::cuda
