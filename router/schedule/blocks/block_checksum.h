#pragma once
// BlockChecksum: 64 bits over the bytes of a block, to notice what a disk or a memory lost.
//
// Any change within one aligned word of 8 bytes changes it for certain, any other with probability
// 1 - 2^-64. Not against somebody who means it: the bytes are this process's own.
//
// Threads    one. Cost  about 10 GB/s: four words at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sheaf {

class BlockChecksum {
 public:
  // `seed`: what the bytes are said to be; the same bytes under another seed have another sum.
  explicit BlockChecksum(uint64_t seed);

  // In pieces of any length; where they are cut counts.
  void Add(std::span<const uint8_t> bytes);
  uint64_t sum() const;

 private:
  std::array<uint64_t, 4> lanes_;
  uint64_t length_ = 0;
};

}  // namespace sheaf
