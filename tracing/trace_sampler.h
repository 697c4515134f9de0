#pragma once
// TraceSampler: which traces are kept.
//
// Parent     who has begun a trace has decided: what it keeps is kept, what it does not is not.
// Otherwise  by the last 56 bits of the trace's id, which are random: every process with the same
//            ratio decides alike, and one with a larger ratio keeps all that another keeps.
//
// Threads  immutable. Pure.

#include <cstdint>

#include "tracing/trace_context.h"

namespace sheaf {

class TraceSampler {
 public:
  // `ratio`: share of traces without a parent that are kept, in [0, 1].
  explicit TraceSampler(double ratio);

  bool Keeps(const TraceId& trace) const;
  // `parent`: null: nobody has begun it.
  bool Keeps(const TraceContext* parent, const TraceId& trace) const {
    return parent != nullptr ? parent->sampled() : Keeps(trace);
  }

 private:
  uint64_t first_kept_;  // of the values of those 56 bits
};

}  // namespace sheaf
