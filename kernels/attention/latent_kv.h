#pragma once
// The cache of multi-head latent attention: for each token one record of its normalised latent and
// its rotated key, which all heads share.
//
// Pages      a block holds `block_size` consecutive positions of a sequence; one layer's pool is
//            [num_blocks][block_size][token_bytes]. Position p of a sequence lives in block
//            block_table[p / block_size] at slot p % block_size.
// Record     kF32, kBF16: latent_dim + rope_dim elements. kFp8E4M3: the latent as scaled e4m3
//            (kernels/linear/scaled_fp8.h, Fp8Scale::kExact), then the rotated key in bf16 (vLLM's
//            fp8_ds_mla: 656 bytes at 512 + 64). kFp8E5M2 is not a latent format.
// Ownership  views only. `data` has the alignment of a float.
// Threads    pure; different tokens may be stored at once.

#include <cstddef>
#include <cstdint>

#include "kernels/attention/kv_format.h"

namespace sheaf::kernels {

struct LatentPool {
  KvFormat format = KvFormat::kBF16;
  int block_size = 16;  // tokens
  int latent_dim = 0;
  int rope_dim = 0;
  uint8_t* data = nullptr;

  static size_t TokenBytes(KvFormat format, int latent_dim, int rope_dim);

  size_t token_bytes() const { return TokenBytes(format, latent_dim, rope_dim); }
  size_t block_bytes() const { return static_cast<size_t>(block_size) * token_bytes(); }
  uint8_t* token(int64_t block, int slot) const {
    return data + (block * block_size + slot) * token_bytes();
  }
};

// Writes the latent [latent_dim] and the rotated key [rope_dim] of one token at `position`.
void StoreLatentToken(const LatentPool& kv, const int32_t* block_table, int position,
                      const float* latent, const float* rope_key);

// out [latent_dim + rope_dim]: the latent, then the rotated key.
void LoadLatentToken(const LatentPool& kv, const int32_t* block_table, int position, float* out);

}  // namespace sheaf::kernels
