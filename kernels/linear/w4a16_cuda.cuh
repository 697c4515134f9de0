#pragma once
// The 4-bit product on a device: a block's 8 warps, two row blocks each, times a tile of rows of activations.
//
// Numbers    kernels/linear/linear.h, bit by bit: exact sums of a segment by tensor cores (unsigned codes times the two signed planes;
//            the zero times the sum of the inputs taken off), one fused multiply-add a segment in ascending order.
//            No sum is split over warps or blocks, so a result depends on its row and the weights alone.
// Memory     the weights are read once a tile of rows, by asynchronous copies stages - 1 groups ahead.
// Threads    all threads of a block call MultiplyPair together. Lane 4 g + t ends with the sums of rows g and g + 8 of
//            its warp's two row blocks for tokens 2 t and 2 t + 1 of each tensor-core tile, in the order of d.

#include "kernels/cuda/device.h"
#include "kernels/linear/quantized_rows_cuda.cuh"
#include "kernels/linear/w4a16_cuda.h"

namespace sheaf::kernels::cuda {

// A warp's share of a matrix: one row block of 16 outputs.
struct RowBlock {
  const DeviceMatrix* matrix = nullptr;
  int32_t block = -1;  // -1: none, the warp has nothing to do here
};

// The rows of activations of a tile: list[first + i] of `rows`, or first + i where there is no list.
struct TileRows {
  DeviceRows rows;
  const int32_t* list = nullptr;
  int32_t first = 0;
  int32_t count = 0;  // 1..kTokens x tiles; the others are zeros
};

// What a lane copies of a row block: 16 bytes of each half of the codes and, the first lanes, of scales and zeros.
struct PartReader {
  const uint8_t* codes = nullptr;
  const uint8_t* rest = nullptr;
  int32_t rest_stride = 0;
  bool has_rest = false;

  SHEAF_DEVICE void Start(const RowBlock& of, int lane) {
    if (of.block < 0) return;
    const DeviceMatrix& w = *of.matrix;
    const int64_t groups = NumGroups(w.k);
    const int segments = kActivationGroup / w.segment;
    const int scale_bytes = segments * kRowBlock * static_cast<int>(ScaleBytes(w.scale_format));
    const int zero_bytes = w.zeros == nullptr ? 0 : segments * kRowBlock;
    codes = w.codes + of.block * groups * kTileBytes + 16 * lane;
    const int at = 16 * lane;
    has_rest = at < scale_bytes + zero_bytes;
    if (at < scale_bytes) {
      rest = w.scales + of.block * groups * scale_bytes + at;
      rest_stride = scale_bytes;
    } else if (has_rest) {
      rest = w.zeros + of.block * groups * zero_bytes + (at - scale_bytes);
      rest_stride = zero_bytes;
    }
  }

  // The next group into `part`.
  SHEAF_DEVICE void Copy(unsigned char* part, int lane) {
    if (codes == nullptr) return;
    CopyAsync16(part + 16 * lane, codes);
    CopyAsync16(part + kTileBytes / 2 + 16 * lane, codes + kTileBytes / 2);
    if (has_rest) CopyAsync16(part + kTileBytes + 16 * lane, rest);
    codes += kTileBytes;
    rest += rest_stride;
  }
};

// One group of the warp's rows of the tile: its first tile_rows / 8 times. Lanes 0..15 copy planes, 16 the sums, 17 the scale.
template <int kTiles>
SHEAF_DEVICE void CopyTileRows(const DeviceRows& x, const int (&row)[kTiles], int tiles, int group,
                               unsigned char* to, int warp, int lane) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    if (i >= tiles) break;
    const bool present = row[i] >= 0;
    const int64_t at = present ? int64_t{row[i]} * x.groups + group : 0;
    unsigned char* token = to + (i * kTokens + warp) * kTokenBytes;
    if (lane <= 16) {
      const void* from = lane < 16
                             ? static_cast<const void*>(x.planes + at * kGroupBytes + 16 * lane)
                             : static_cast<const void*>(x.sums + at * kSumsPerGroup);
      CopyAsync16OrZero(token + 16 * lane, from, present);
    } else if (lane == 17) {
      CopyAsync4OrZero(token + kGroupBytes + 16, x.scales + at, present);
    }
  }
}

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

SHEAF_DEVICE float ScaleOfPart(const unsigned char* scales, ScaleFormat format, int index) {
  if (format == ScaleFormat::kF32) return reinterpret_cast<const float*>(scales)[index];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(scales)[index];
  return format == ScaleFormat::kBF16 ? BitsToFloat(uint32_t{bits} << 16) : HalfToFloat(bits);
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
struct alignas(16) Sums4 {
  int32_t x[4];
};

template <int kSegment>
SHEAF_DEVICE int32_t SumOfSegment(const Sums4& sums, int segment) {
  if constexpr (kSegment == 128) {
    return sums.x[0] + sums.x[1] + sums.x[2] + sums.x[3];
  } else if constexpr (kSegment == 64) {
    return segment == 0 ? sums.x[0] + sums.x[1] : sums.x[2] + sums.x[3];
  } else {
    return sums.x[segment];
  }
}

// One group: acc[m][tile][i] takes the group's segments in order.
template <int kTiles, int kSegment>
SHEAF_DEVICE void MultiplyGroup(const PartView (&views)[2], const unsigned char* tokens, int tiles,
                                int lane, float (&acc)[2][kTiles][4]) {
  constexpr int kSegments = kActivationGroup / kSegment;
  constexpr int kSteps = kSegment / 32;
  const int g = lane / 4, t = lane % 4;
  uint32_t words[2][8] = {};
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!views[m].present) continue;
      const Words4 four =
          *reinterpret_cast<const Words4*>(views[m].part + half * (kTileBytes / 2) + 16 * lane);
#pragma unroll
      for (int j = 0; j < 4; ++j) words[m][half * 4 + j] = four.x[j];
    }
  }
#pragma unroll
  for (int segment = 0; segment < kSegments; ++segment) {
    float weight_scale[2][2] = {};
    int32_t zero[2][2] = {};
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      if (!views[m].present) continue;
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
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile >= tiles) break;
      int32_t high[2][4] = {}, low[2][4] = {};
      const unsigned char* token = tokens + (tile * kTokens + g) * kTokenBytes + 8 * t;
#pragma unroll
      for (int step = segment * kSteps; step < (segment + 1) * kSteps; ++step) {
        const Words2 b_high = *reinterpret_cast<const Words2*>(token + 32 * step);
        const Words2 b_low = *reinterpret_cast<const Words2*>(token + kActivationGroup + 32 * step);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          if (!views[m].present) continue;
          const uint32_t w0 = words[m][2 * step], w1 = words[m][2 * step + 1];
          const uint32_t a[4] = {w0 & 0x0f0f0f0fu, w1 & 0x0f0f0f0fu, w0 >> 4 & 0x0f0f0f0fu,
                                 w1 >> 4 & 0x0f0f0f0fu};
          MultiplyTile(high[m], a, b_high.x[0], b_high.x[1]);
          MultiplyTile(low[m], a, b_low.x[0], b_low.x[1]);
        }
      }
      float x_scale[2];
      int32_t sum[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const unsigned char* of = tokens + (tile * kTokens + 2 * t + c) * kTokenBytes + kGroupBytes;
        sum[c] = SumOfSegment<kSegment>(*reinterpret_cast<const Sums4*>(of), segment);
        x_scale[c] = *reinterpret_cast<const float*>(of + 16);
      }
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if (!views[m].present) continue;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int32_t total = 256 * high[m][i] + low[m][i] - zero[m][i / 2] * sum[i % 2];
          acc[m][tile][i] = FusedMultiplyAdd(
              IntToFloat(total), Multiply(weight_scale[m][i / 2], x_scale[i % 2]), acc[m][tile][i]);
        }
      }
    }
  }
}

// acc += both row blocks times the tile. Shared memory is the ring's; all threads have left it on return.
template <int kTiles, int kSegment>
SHEAF_DEVICE void MultiplyPairOfSegment(const RowBlock (&blocks)[2], const TileRows& x,
                                        const RingShape& ring, float (&acc)[2][kTiles][4]) {
  const int warp = ThreadIndex() / kWarpLanes, lane = ThreadIndex() % kWarpLanes;
  const int groups = x.rows.groups;
  const int tiles = (x.count + kTokens - 1) / kTokens;
  const int tokens_at = 2 * kProductWarps * ring.part_bytes;
  unsigned char* const shared = SharedMemory();
  int row[kTiles];
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    const int at = i * kTokens + warp;
    row[i] = at >= x.count ? -1 : x.list == nullptr ? x.first + at : x.list[x.first + at];
  }
  PartReader readers[2];
  PartView views[2];
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    readers[m].Start(blocks[m], lane);
    views[m].present = blocks[m].block >= 0;
    if (!views[m].present) continue;
    views[m].format = blocks[m].matrix->scale_format;
    views[m].zeros = blocks[m].matrix->zeros != nullptr;
  }
  const auto copy_group = [&](int group, int slot) {
    unsigned char* stage = shared + slot * ring.stage_bytes();
#pragma unroll
    for (int m = 0; m < 2; ++m) readers[m].Copy(stage + (2 * warp + m) * ring.part_bytes, lane);
    CopyTileRows<kTiles>(x.rows, row, tiles, group, stage + tokens_at, warp, lane);
  };
  for (int group = 0; group < ring.stages - 1; ++group) {
    if (group < groups) copy_group(group, group);
    CopyAsyncCommit();
  }
  int slot = 0, free_slot = ring.stages - 1;
  for (int group = 0; group < groups; ++group) {
    WaitForCopies(ring.stages - 2);
    SyncBlock();  // the group has landed for all, and all have left the slot that is copied to
    if (group + ring.stages - 1 < groups) copy_group(group + ring.stages - 1, free_slot);
    CopyAsyncCommit();
    const unsigned char* stage = shared + slot * ring.stage_bytes();
#pragma unroll
    for (int m = 0; m < 2; ++m) views[m].part = stage + (2 * warp + m) * ring.part_bytes;
    MultiplyGroup<kTiles, kSegment>(views, stage + tokens_at, tiles, lane, acc);
    free_slot = slot;
    slot = slot + 1 == ring.stages ? 0 : slot + 1;
  }
  WaitForCopies(0);
  SyncBlock();
}

template <int kTiles>
SHEAF_DEVICE void MultiplyPair(const RowBlock (&blocks)[2], int segment, const TileRows& x,
                               const RingShape& ring, float (&acc)[2][kTiles][4]) {
  if (segment == 128) return MultiplyPairOfSegment<kTiles, 128>(blocks, x, ring, acc);
  if (segment == 64) return MultiplyPairOfSegment<kTiles, 64>(blocks, x, ring, acc);
  MultiplyPairOfSegment<kTiles, 32>(blocks, x, ring, acc);
}

}  // namespace sheaf::kernels::cuda
