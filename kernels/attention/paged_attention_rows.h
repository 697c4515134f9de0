#pragma once
// The inner steps of paged attention on one reduction block and four query rows. Internal to
// paged_attention*.cc; the arithmetic is spelled out in paged_attention_ref.cc.
//
// Rows are padded with zeros to `width` = head_dim rounded up to 16 floats, so that no step has a
// tail.
//
// Threads    pure. Never called while the reference target is forced.

#include <cstddef>

#include "kernels/attention/paged_attention.h"

namespace sheaf::kernels::internal {

inline constexpr int kQueryRows = 4;

// Keys and values of positions [begin, end), at most kReductionBlock, as floats [end -
// begin][width]. Keys are followed by rows of zeros up to a multiple of four.
void LoadKvBlock(const KvPool& kv, const int32_t* block_table, int kv_head, int begin, int end,
                 size_t width, float* keys, float* values);

// One block for four rows q [4][width] that all see its first `count` positions: maximum m [4], sum
// l [4] and weighted values o [4][width].
void AttendRows(const float* q, const float* keys, const float* values, size_t count, size_t width,
                float scale, float* m, float* l, float* o);

// Merges a block's (m, l, o) of four rows into the running state.
void MergeRows(const float* m, const float* l, const float* o, size_t width, float* state_m,
               float* state_l, float* state_o);

// out[0, head_dim) = o / l for one row.
void FinishRow(const float* o, float l, size_t head_dim, float* out);

}  // namespace sheaf::kernels::internal
