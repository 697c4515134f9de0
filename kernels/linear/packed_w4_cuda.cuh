#pragma once
// Tiles of the packed layout into tiles of a device, in place.
//
// Shapes     codes [num_tiles][1024 bytes], 16-byte aligned. One warp a tile, any grid.
// Cost       one read and one write of the codes.

#include "kernels/cuda/device.h"
#include "kernels/linear/packed_w4_cuda.h"

namespace sheaf::kernels::cuda {

inline constexpr int kRetileThreads = 256;

SHEAF_KERNEL(kRetileThreads, 1) RetileW4(uint32_t* codes, int64_t num_tiles) {
  const int lane = ThreadIndex() % kWarpLanes;
  const int warps = kRetileThreads / kWarpLanes;
  const int64_t stride = int64_t{GridBlocks()} * warps;
  for (int64_t tile = int64_t{BlockIndex()} * warps + ThreadIndex() / kWarpLanes; tile < num_tiles;
       tile += stride) {
    uint32_t* words = codes + tile * kTileWords;
    uint32_t mine[kTileWords / kWarpLanes];
#pragma unroll
    for (int i = 0; i < kTileWords / kWarpLanes; ++i) mine[i] = words[i * kWarpLanes + lane];
    SyncWarp();  // every lane has read what the others overwrite
#pragma unroll
    for (int i = 0; i < kTileWords / kWarpLanes; ++i) {
      words[DeviceWord(i * kWarpLanes + lane)] = mine[i];
    }
  }
}

}  // namespace sheaf::kernels::cuda
