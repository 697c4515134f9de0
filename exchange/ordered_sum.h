#pragma once
// The end of every expert layer: sum[t] = fma(w(t,k), vectors[t,k], ...) for k = 0, 1, ... from 0,
// the expert ids of a row being ascending, + last[t]. The only place where expert outputs are
// added, so that the bits do not depend on who computed them or on what arrived first.
//
// Shapes     weights, vectors [num_tokens][top_k]; a vector and a row of sum are `hidden` floats.
//            last [num_tokens][hidden] or null.
// Threads    splits tokens and columns over the pool when there is enough to do.

#include "base/thread_pool.h"

namespace sheaf {

void SumInExpertOrder(ThreadPool& pool, int num_tokens, int top_k, int hidden, const float* weights,
                      const float* const* vectors, float* sum, const float* last = nullptr);

}  // namespace sheaf
