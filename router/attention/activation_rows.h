#pragma once
// Rows of activations in both forms that products read: floats, and groups of integers.
//
// Ownership  views of the caller's buffers. Threads: QuantizeInto writes one row, any thread.

#include "kernels/linear/linear.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {

// Rows [first, first + count) of floats [..][k] and of their quantized form.
kernels::Activations RowsOf(const float* floats, const kernels::QuantizedRowsBuffer& quantized,
                            int k, int first, int count);

// Quantizes x [k] to buffer.bits() as row `row` of a buffer that was resized to k.
void QuantizeInto(const float* x, int k, int row, kernels::QuantizedRowsBuffer& buffer);

}  // namespace sheaf
