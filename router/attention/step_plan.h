#pragma once
// A step's batch as bytes, from rank 0 to the others, so that every rank makes the same Forward.
//
// Layout (int32, little-endian): sequences; of each: tokens, first_position, first_logit_token,
// blocks, then the token ids, then the block table as far as the tokens reach.
//
// Threads    pure.
// Errors     Decode: kInvalidArgument naming what does not fit: a count beyond the bytes, a block
//            that the cache has not, a table that is too short, a position too far. Token ids and
//            rows are Forward's to judge.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "router/attention/decoder.h"

namespace sheaf {

std::vector<uint8_t> EncodeStepPlan(std::span<const StepSequence> sequences, int block_size);

class ReceivedStepPlan {
 public:
  struct Bounds {
    int block_size = 0;  // tokens
    int num_blocks = 0;
    int max_positions = 0;
  };

  static absl::StatusOr<ReceivedStepPlan> Decode(std::span<const uint8_t> bytes,
                                                 const Bounds& bounds);

  // Views of this.
  const std::vector<StepSequence>& sequences() const { return sequences_; }

 private:
  std::vector<int32_t> words_;
  std::vector<StepSequence> sequences_;
};

}  // namespace sheaf
