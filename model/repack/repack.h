#pragma once
// Rewrites a 4-bit checkpoint in another file format: the same nibbles, scales and zero points, so
// the same model to the bit. Checkpoints with 8-bit parts are refused.
//
// Tensors stay in the shards in which their Linear's words are; what is not a 4-bit Linear is
// copied. config.json gets a new quantization_config; other files (tokenizer, template, ...) are
// copied, but for the old format's own description.
//
// Files      everything is written beside `to` and renamed at the end: after an error nothing is
//            left.
// Threads    one. Memory: one shard's 4-bit tensors.
// Errors     kAlreadyExists: `to`. kInvalidArgument / kUnimplemented: the source (as
//            model/linear_plan.h), or what the target cannot say, naming the Linear.
//            kResourceExhausted: a full disk.

#include <string>

#include "absl/status/status.h"
#include "model/repack/file_linear.h"

namespace sheaf {

struct RepackSummary {
  int quantized_linears = 0;
  int copied_tensors = 0;
  uint64_t bytes = 0;  // of tensors written
};

absl::StatusOr<RepackSummary> RepackCheckpoint(const std::string& from, const std::string& to,
                                               RepackFormat format);

}  // namespace sheaf
