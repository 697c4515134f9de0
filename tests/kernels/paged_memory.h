#pragma once
// What the tests of paged kernels share: a pool's memory, full of garbage, whose blocks are handed
// out in random order; and the comparison of many outputs bit by bit.
//
// Ownership  owns the memory. Threads  one.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/kernels/every_target.h"

namespace sheaf::kernels::testing {

inline constexpr float kGarbage = 1e30f;  // where nothing is written or read

class PagedMemory {
 public:
  PagedMemory() = default;
  PagedMemory(std::mt19937_64& random, size_t num_blocks, size_t block_bytes)
      : memory_(num_blocks * block_bytes / sizeof(float) + 1, kGarbage), free_(num_blocks) {
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), random);
  }

  // Aligned as floats are. Stays where it is until the end.
  uint8_t* data() { return reinterpret_cast<uint8_t*>(memory_.data()); }

  // A block table for `num_positions` more.
  std::vector<int32_t> Take(int num_positions, int block_size) {
    const size_t left = free_.size() - (num_positions + block_size - 1) / block_size;
    const std::vector<int32_t> table(free_.begin() + left, free_.end());
    free_.resize(left);
    return table;
  }

 private:
  std::vector<float> memory_;
  std::vector<int32_t> free_;
};

inline void ExpectSameOutputs(const std::vector<std::vector<float>>& actual,
                              const std::vector<std::vector<float>>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE("output " + std::to_string(i));
    ExpectSameBits(actual[i], expected[i], expected[i].size());
  }
}

}  // namespace sheaf::kernels::testing
