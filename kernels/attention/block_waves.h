#pragma once
// How many blocks of a split context are attended to before they are merged. Their partial results
// wait in memory meanwhile; merged in block order they give the bits of one thread that goes from
// block to block, however long a wave.
//
// Threads    pure.

#include <algorithm>
#include <cstddef>

namespace sheaf::kernels {

// block_bytes: the partial results of one block of everything that is split; most_blocks: of the
// longest context. At most 8 MiB, but four blocks, which keep threads busy, whatever they take.
constexpr int WaveBlocks(size_t block_bytes, int most_blocks) {
  constexpr size_t kWaveBytes = size_t{8} << 20;
  constexpr size_t kLeastBlocks = 4;
  return static_cast<int>(std::min(static_cast<size_t>(most_blocks),
                                   std::max(kLeastBlocks, kWaveBytes / block_bytes)));
}

}  // namespace sheaf::kernels
