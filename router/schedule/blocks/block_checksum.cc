#include "router/schedule/blocks/block_checksum.h"

#include <bit>
#include <cstring>

namespace sheaf {
namespace {

// Odd: multiplying by them loses nothing.
constexpr std::array<uint64_t, 4> kFactors = {0x9e3779b97f4a7c15, 0xd1342543de82ef95,
                                              0xaf251af3b0f025b5, 0xc2b2ae3d27d4eb4f};

// For a fixed word one to one in the lane, for a fixed lane one to one in the word.
uint64_t Mix(uint64_t lane, uint64_t word, uint64_t factor) {
  return std::rotl((lane ^ word) * factor, 29);
}

uint64_t WordAt(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

BlockChecksum::BlockChecksum(uint64_t seed) {
  for (size_t i = 0; i < lanes_.size(); ++i) lanes_[i] = Mix(seed, i, kFactors[i]);
}

void BlockChecksum::Add(std::span<const uint8_t> bytes) {
  length_ += bytes.size();
  std::array<uint64_t, 4> lanes = lanes_;
  const uint8_t* next = bytes.data();
  size_t left = bytes.size();
  for (; left >= 32; left -= 32, next += 32) {
    for (size_t i = 0; i < 4; ++i) lanes[i] = Mix(lanes[i], WordAt(next + 8 * i), kFactors[i]);
  }
  if (left > 0) {
    std::array<uint8_t, 32> rest{};
    std::memcpy(rest.data(), next, left);
    for (size_t i = 0; i < 4; ++i) {
      lanes[i] = Mix(lanes[i], WordAt(rest.data() + 8 * i), kFactors[i]);
    }
  }
  lanes_ = lanes;
}

uint64_t BlockChecksum::sum() const {
  uint64_t sum = length_;
  for (size_t i = 0; i < 4; ++i) {
    sum = Mix(sum, lanes_[i], kFactors[i]);
    sum ^= sum >> 32;
  }
  return sum;
}

}  // namespace sheaf
