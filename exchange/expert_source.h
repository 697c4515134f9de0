#pragma once
// ExpertSource: where a process finds the weights of the experts that it holds.
//
// Ownership  the weights live as long as the source. Threads: any. cli/ and worker/ adapt
//            model/expert_slice.h.

#include "base/ids.h"
#include "kernels/experts/expert_ffn.h"

namespace sheaf {

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;
  // Null when this process does not hold it.
  virtual const kernels::ExpertWeights* Find(LayerId layer, ExpertId expert) const = 0;
};

}  // namespace sheaf
