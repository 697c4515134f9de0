#include "kernels/attention/latent_kv.h"

#include "kernels/linear/scaled_fp8.h"

namespace sheaf::kernels {
namespace {

// Where the rotated key begins in a record, and how it is stored.
size_t RopeKeyOffset(const LatentPool& kv) {
  const size_t latent_dim = static_cast<size_t>(kv.latent_dim);
  return kv.format == KvFormat::kFp8E4M3 ? ScaledFp8Bytes(latent_dim)
                                         : latent_dim * KvBytes(kv.format);
}

KvFormat RopeKeyFormat(KvFormat format) {
  return format == KvFormat::kFp8E4M3 ? KvFormat::kBF16 : format;
}

uint8_t* Record(const LatentPool& kv, const int32_t* block_table, int position) {
  return kv.token(block_table[position / kv.block_size], position % kv.block_size);
}

}  // namespace

size_t LatentPool::TokenBytes(KvFormat format, int latent_dim, int rope_dim) {
  const LatentPool shape = {.format = format, .latent_dim = latent_dim, .rope_dim = rope_dim};
  return RopeKeyOffset(shape) + static_cast<size_t>(rope_dim) * KvBytes(RopeKeyFormat(format));
}

void StoreLatentToken(const LatentPool& kv, const int32_t* block_table, int position,
                      const float* latent, const float* rope_key) {
  uint8_t* record = Record(kv, block_table, position);
  if (kv.format == KvFormat::kFp8E4M3) {
    StoreScaledFp8(latent, kv.latent_dim, Fp8Scale::kExact, record);
  } else {
    StoreKv(latent, kv.latent_dim, kv.format, record);
  }
  StoreKv(rope_key, kv.rope_dim, RopeKeyFormat(kv.format), record + RopeKeyOffset(kv));
}

void LoadLatentToken(const LatentPool& kv, const int32_t* block_table, int position, float* out) {
  const uint8_t* record = Record(kv, block_table, position);
  if (kv.format == KvFormat::kFp8E4M3) {
    LoadScaledFp8(record, kv.latent_dim, out);
  } else {
    LoadKv(record, kv.latent_dim, kv.format, out);
  }
  LoadKv(record + RopeKeyOffset(kv), kv.rope_dim, RopeKeyFormat(kv.format), out + kv.latent_dim);
}

}  // namespace sheaf::kernels
