#include <cstring>

#include "kernels/cuda/emulation/emulator.h"

namespace sheaf::kernels::cuda::emulation {

void ShuffleXorWords(LaneWords* lanes, int argument) {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    lanes[lane].out[0] = lanes[lane ^ argument].in[0];
  }
}

// Fragments of mma.m16n8k32 (PTX ISA, "Matrix fragments for mma.m16n8k32"), lane = 4 g + t:
//   a0 a1 a2 a3   rows g, g+8, g, g+8; columns 4t..4t+3, the same, 16+4t..16+4t+3, the same
//   b0 b1         column g; rows 4t..4t+3, 16+4t..16+4t+3
//   d0 d1 d2 d3   rows g, g, g+8, g+8; columns 2t, 2t+1, 2t, 2t+1
void MultiplyTileWords(LaneWords* lanes, int) {
  uint8_t a_bytes[16][32];
  int8_t b_bytes[8][32];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const uint32_t* words = lanes[lane].in;
    std::memcpy(&a_bytes[g][4 * t], &words[0], 4);
    std::memcpy(&a_bytes[g + 8][4 * t], &words[1], 4);
    std::memcpy(&a_bytes[g][16 + 4 * t], &words[2], 4);
    std::memcpy(&a_bytes[g + 8][16 + 4 * t], &words[3], 4);
    std::memcpy(&b_bytes[g][4 * t], &words[4], 4);
    std::memcpy(&b_bytes[g][16 + 4 * t], &words[5], 4);
  }
  // In 16 bits: what g++ makes multiply-adds of pairs of.
  int16_t a[16][32], b[8][32];
  for (int row = 0; row < 16; ++row) {
    for (int i = 0; i < 32; ++i) a[row][i] = a_bytes[row][i];
  }
  for (int column = 0; column < 8; ++column) {
    for (int i = 0; i < 32; ++i) b[column][i] = b_bytes[column][i];
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const int16_t* row = a[g + i / 2 * 8];
      const int16_t* column = b[2 * t + i % 2];
      int32_t sum = 0;
      for (int j = 0; j < 32; ++j) sum += row[j] * column[j];
      lanes[lane].out[i] = lanes[lane].in[6 + i] + static_cast<uint32_t>(sum);
    }
  }
}

}  // namespace sheaf::kernels::cuda::emulation
