#pragma once
// The same model in plain double precision, straight from its formulas: no cache, no batch, no
// quantization.

#include <span>
#include <vector>

#include "base/ids.h"
#include "tests/attention/tiny_checkpoint.h"

namespace sheaf::testing {

// Logits of every position of `tokens`.
std::vector<std::vector<double>> ReferenceLogits(const TinyCheckpoint& checkpoint,
                                                 std::span<const TokenId> tokens);

}  // namespace sheaf::testing
