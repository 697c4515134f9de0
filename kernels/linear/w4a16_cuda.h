#pragma once
// The shapes of the 4-bit product on a device: how a block's shared memory is cut, and how a launch
// chooses it.
//
// A block is 8 warps. A warp has two blocks of 16 output rows; all warps have the same tile of 8,
// 16 or 64 rows of activations. A stage of the ring holds one group of 128 inputs of all of these:
//
//   stage   [8 warps][2 row blocks][part_bytes: codes 1024, scales, zeros], [tile rows][288: planes
//           256, sums 16, scale 4]
//
// In every second half of 8 rows scale and sums are exchanged: lanes of a warp read those of rows 0
// 2 4 6 or 1 3 5 7 at once, which are in different banks then (tests/kernels/cuda/ptx_test.py
// counts).
//
// Threads    pure functions.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/linear/packed_w4_cuda.h"

namespace sheaf::kernels::cuda {

inline constexpr int kProductWarps = 8;
inline constexpr int kProductThreads = kProductWarps * 32;
inline constexpr int kTokens = 8;  // rows of activations of one tensor-core tile
inline constexpr int kFewTiles = 2;
inline constexpr int kManyTiles = 8;
// 8 tokens' bytes of the same inputs lie in different banks: 288 is 32 modulo 128.
inline constexpr int kTokenBytes = 2 * kActivationGroup + 32;
constexpr int SumsAt(int token) { return 2 * kActivationGroup + (token & 4) * 4; }
constexpr int ScaleAt(int token) { return 2 * kActivationGroup + (~token & 4) * 4; }
inline constexpr int kMaxStages = 8;
// Floats of a token's inner group in shared memory, and where one lies: lanes write neighbours of 4
// tokens, and read two of each eight of one (InputOfLane).
inline constexpr int kValueStride = kActivationGroup + 20;
constexpr int ValueAt(int token, int input) {
  return token * kValueStride + input + input / 32 * 2;
}

struct RingShape {
  int32_t stages = 0;
  int32_t part_bytes = 0;  // the largest of any matrix of the launch
  int32_t tile_rows = 0;   // kTokens x tiles

  constexpr int32_t stage_bytes() const {
    return 2 * kProductWarps * part_bytes + tile_rows * kTokenBytes;
  }
  // The ring, and in its place afterwards the tile's inner values.
  constexpr size_t shared_bytes() const {
    return static_cast<size_t>(
        std::max<int32_t>(stages * stage_bytes(), tile_rows * kValueStride * 4));
  }
};

// What a launch must know of the device; from cudaDeviceGetAttribute.
struct DeviceLimits {
  int processors = 1;
  size_t block_shared_bytes = 99 * 1024;  // sharedMemPerBlockOptin
  size_t processor_shared_bytes =
      100 * 1024;  // sharedMemPerMultiprocessor; a block takes 1 KiB more of it
};

// As many stages as fit, two blocks a processor where each then has three or more; `blocks` is how
// many. stages < 2: the device has too little shared memory for such a part.
constexpr RingShape ChooseRing(const DeviceLimits& limits, int tiles, int part_bytes, int& blocks) {
  RingShape ring{.stages = 1, .part_bytes = part_bytes, .tile_rows = kTokens * tiles};
  const auto stages = [&](size_t bytes) {
    return std::min<int>(kMaxStages, static_cast<int>(bytes / ring.stage_bytes()));
  };
  const int whole = stages(limits.block_shared_bytes);
  const size_t share = limits.processor_shared_bytes / 2;
  const int half = stages(std::min(limits.block_shared_bytes, share > 1024 ? share - 1024 : 0));
  blocks = tiles <= kFewTiles && half >= 3 ? 2 : 1;
  ring.stages = blocks == 2 ? half : whole;
  return ring;
}

}  // namespace sheaf::kernels::cuda
