#pragma once
// Reads the rotary embedding out of config.json: rope_theta, partial_rotary_factor, rope_scaling
// and rope_parameters, which writers of five years have put in different places.
//
// * A value inside rope_scaling or rope_parameters is before the same one outside, as transformers
//   has it; the two objects must not contradict each other.
// * rope_parameters by layer type ({"full_attention": {...}}) count where one of them is meant.
// * A rope_theta that is nowhere is 10000, as in transformers, with a remark; but not beside a key
//   that looks like a misspelt one: that is an error.
//
// Threads    pure.
// Errors     kInvalidArgument: a wrong type or range, a contradiction, a misspelt key.
//            kUnimplemented: a kind of scaling other than linear and yarn. Both name file, key,
//            wanted, got.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/attention/rope.h"
#include "model/config_json.h"

namespace sheaf {

struct RopeConfig {
  kernels::RopeParameters rope;
  double partial_rotary = 1.0;  // share of a head that is rotated
  // What scores are multiplied with besides 1 / sqrt(width), in latent attention alone.
  double score_factor = 1.0;
  std::vector<std::string> remarks;
};

absl::StatusOr<RopeConfig> ReadRope(const JsonObject& object, double default_partial_rotary,
                                    int max_position_embeddings);

}  // namespace sheaf
