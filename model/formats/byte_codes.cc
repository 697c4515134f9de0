#include "model/formats/byte_codes.h"

#include <algorithm>
#include <cstring>

#include "kernels/linear/packed_w8.h"

namespace sheaf {
namespace {

using kernels::kRowBlock;

constexpr int kStepWords = 2 * kRowBlock;  // 16 of the even inputs, then 16 of the odd ones
constexpr int kTileSteps = 4;              // 512 contiguous bytes a row block

struct StepWords {
  uint32_t even = 0;
  uint32_t odd = 0;
};

// Of a step's 8 codes, input j at bits 8j.
constexpr StepWords Split(uint64_t codes) {
  const auto every_second = [](uint64_t v) {
    v &= 0x00FF00FF00FF00FFu;
    v = (v | v >> 8) & 0x0000FFFF0000FFFFu;
    return static_cast<uint32_t>(v | v >> 16);
  };
  return {every_second(codes), every_second(codes >> 8)};
}

// The first word of row `row`'s step.
size_t WordOf(const UnpackRange& range, int row, int step) {
  const auto steps = static_cast<size_t>(kernels::PaddedK(range.num_columns) / 8);
  return (static_cast<size_t>(row / kRowBlock) * steps + static_cast<size_t>(step)) * kStepWords +
         static_cast<size_t>(row % kRowBlock);
}

// code(row, i): of input i of the range's columns.
template <typename Code>
void Gather(const UnpackRange& range, const Code& code, uint32_t* codes) {
  for (int row = 0; row < range.num_rows; ++row) {
    for (int step = 0; 8 * step < range.num_columns; ++step) {
      uint64_t all = 0;
      for (int j = 0; j < std::min(8, range.num_columns - 8 * step); ++j)
        all |= static_cast<uint64_t>(code(row, 8 * step + j)) << (8 * j);
      const StepWords words = Split(all);
      uint32_t* const out = codes + WordOf(range, row, step);
      out[0] = words.even;
      out[kRowBlock] = words.odd;
    }
  }
}

}  // namespace

void UnpackColumnsOfBytes(const uint8_t* words, int n, int k, const UnpackRange& range,
                          const WeightGroups& groups, uint32_t* codes) {
  if (!groups.permutation.empty()) {
    Gather(
        range,
        [&](int row, int i) {
          const int input = range.first_column + groups.permutation[i];
          const size_t word = static_cast<size_t>(input / 4) * n + range.first_row + row;
          return words[4 * word + input % 4];
        },
        codes);
    return;
  }
  const int steps = (range.num_columns + 7) / 8;
  for (int tile = 0; tile < steps; tile += kTileSteps) {
    const int end = std::min(steps, tile + kTileSteps);
    for (int block = 0; block < range.num_rows; block += kRowBlock) {
      const int rows = std::min(kRowBlock, range.num_rows - block);
      for (int step = tile; step < end; ++step) {
        const int word_row = range.first_column / 4 + 2 * step;
        const uint8_t* const in =
            words + (static_cast<size_t>(word_row) * n + range.first_row + block) * 4;
        const bool both = 4 * (word_row + 1) < k;
        uint32_t* const out = codes + WordOf(range, block, step);
        for (int r = 0; r < rows; ++r) {
          const uint64_t low = LoadWord(in, r);
          const uint64_t high = both ? LoadWord(in, static_cast<size_t>(n) + r) : 0;
          const StepWords split = Split(low | high << 32);
          out[r] = split.even;
          out[kRowBlock + r] = split.odd;
        }
      }
    }
  }
}

void UnpackRowsOfBytes(const uint8_t* bytes, size_t row_bytes, uint8_t flip,
                       const UnpackRange& range, const WeightGroups& groups, uint32_t* codes) {
  const uint8_t* const first =
      bytes + static_cast<size_t>(range.first_row) * row_bytes + range.first_column;
  if (!groups.permutation.empty()) {
    Gather(
        range,
        [&](int row, int i) {
          return static_cast<uint8_t>(
              first[static_cast<size_t>(row) * row_bytes + groups.permutation[i]] ^ flip);
        },
        codes);
    return;
  }
  const uint64_t flips = 0x0101010101010101u * flip;
  for (int block = 0; block < range.num_rows; block += kRowBlock) {
    const int rows = std::min(kRowBlock, range.num_rows - block);
    for (int step = 0; 8 * step < range.num_columns; ++step) {
      const int count = std::min(8, range.num_columns - 8 * step);
      const uint64_t inside = ~uint64_t{0} >> (64 - 8 * count);
      uint32_t* const out = codes + WordOf(range, block, step);
      for (int r = 0; r < rows; ++r) {
        uint64_t all = 0;
        std::memcpy(&all, first + static_cast<size_t>(block + r) * row_bytes + 8 * step,
                    static_cast<size_t>(count));
        const StepWords split = Split((all ^ flips) & inside);
        out[r] = split.even;
        out[kRowBlock + r] = split.odd;
      }
    }
  }
}

}  // namespace sheaf
