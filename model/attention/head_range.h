#pragma once
// HeadRange: the heads of attention that one rank of tensor parallelism has.
//
// Threads    pure.

#include "model/config.h"

namespace sheaf {

// The heads whose keys and values are cached, and the query heads that read them: the same ones for
// latent attention, all or some of each key/value head's for grouped queries.
struct HeadRange {
  int first = 0;
  int count = 0;
  int first_query = 0;
  int num_queries = 0;
};

// Heads with all of their queries.
HeadRange WholeHeads(const ModelConfig& config, int first, int count);
HeadRange AllHeads(const ModelConfig& config);

}  // namespace sheaf
