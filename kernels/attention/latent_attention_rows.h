#pragma once
// The inner steps of latent attention on one reduction block and any number of query rows. Internal
// to latent_attention*.cc; the arithmetic is spelled out in latent_attention_ref.cc.
//
// A block of keys is [kReductionBlock][key_width] floats, key_width = latent_dim + rope_dim rounded
// up to 16 and padded with zeros; a key's first floats are also its value. Sums are padded to
// value_width = latent_dim rounded up to 16, and their padding holds what the key has there: nobody
// reads it. Query rows come in whole groups of kQueryRows and are key_width floats apart.
//
// Threads    pure. Never called while the reference target is forced.

#include <cstddef>

#include "kernels/attention/paged_attention_rows.h"
#include "kernels/linear/records_ahead.h"

namespace sheaf::kernels::internal {

struct LatentRows {
  size_t rows = 0;  // a multiple of kQueryRows
  size_t key_width = 0;
  size_t value_width = 0;
  float scale = 0;
  const float* q = nullptr;  // [rows][key_width]
  float* m = nullptr;        // [rows]
  float* l = nullptr;        // [rows]
  float* o = nullptr;        // [rows][value_width]
};

constexpr size_t LatentScratchFloats(size_t rows) { return rows * (kReductionBlock + 4); }

// One block for all rows: writes maximum m, sum l and weighted values o. The block's `count` keys
// are followed by rows of numbers up to a multiple of four; `ahead` is fetched meanwhile.
void AttendLatentBlock(const LatentRows& rows, const float* keys, size_t count,
                       const RecordsAhead& ahead, float* scratch);

// One block for all rows, merged into the running m, l and o.
void MergeLatentBlock(const LatentRows& rows, const float* keys, size_t count,
                      const RecordsAhead& ahead, float* scratch);

}  // namespace sheaf::kernels::internal
