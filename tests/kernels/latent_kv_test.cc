#include "kernels/attention/latent_kv.h"

#include "kernels/linear/scaled_fp8.h"
#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

TEST(LatentKv, RecordSizes) {
  EXPECT_EQ(LatentPool::TokenBytes(KvFormat::kF32, 512, 64), 2304u);
  EXPECT_EQ(LatentPool::TokenBytes(KvFormat::kBF16, 512, 64), 1152u);
  EXPECT_EQ(LatentPool::TokenBytes(KvFormat::kFp8E4M3, 512, 64), 656u);
  EXPECT_EQ(LatentPool::TokenBytes(KvFormat::kFp8E4M3, 5, 3), 5u + 4u + 6u);
}

TEST(LatentKv, ATokenIsFoundThroughItsPageAndRoundedByItsFormat) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const KvFormat format : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kFp8E4M3}) {
      for (const auto& [latent_dim, rope_dim] : {std::pair{512, 64}, {37, 6}, {130, 16}}) {
        LatentPool kv = {
            .format = format, .block_size = 4, .latent_dim = latent_dim, .rope_dim = rope_dim};
        std::vector<uint8_t> memory(3 * kv.block_bytes(), 0xAB);
        kv.data = memory.data();
        const int32_t table[] = {2, 0};
        const std::vector<float> latent = testing::RandomNormals(random, latent_dim);
        const std::vector<float> rope_key = testing::RandomNormals(random, rope_dim);
        StoreLatentToken(kv, table, 5, latent.data(), rope_key.data());
        // Position 5 is slot 1 of block 0: nothing else is touched.
        for (size_t i = 0; i < memory.size(); ++i) {
          if (i / kv.token_bytes() == 1) continue;
          ASSERT_EQ(memory[i], 0xAB) << i;
        }

        std::vector<float> expected(latent_dim + rope_dim);
        std::vector<uint8_t> bytes(kv.token_bytes());
        if (format == KvFormat::kFp8E4M3) {
          ref::StoreScaledFp8(latent.data(), latent_dim, Fp8Scale::kExact, bytes.data());
          ref::LoadScaledFp8(bytes.data(), latent_dim, expected.data());
        } else {
          ref::StoreKv(latent.data(), latent_dim, format, bytes.data());
          ref::LoadKv(bytes.data(), latent_dim, format, expected.data());
        }
        const KvFormat rope_format = format == KvFormat::kF32 ? format : KvFormat::kBF16;
        ref::StoreKv(rope_key.data(), rope_dim, rope_format, bytes.data());
        ref::LoadKv(bytes.data(), rope_dim, rope_format, expected.data() + latent_dim);
        std::vector<float> out(latent_dim + rope_dim + 1, 7.0f);
        LoadLatentToken(kv, table, 5, out.data());
        testing::ExpectSameBits(out, expected, expected.size());
        EXPECT_EQ(out.back(), 7.0f);
      }
    }
  });
}

}  // namespace
}  // namespace sheaf::kernels
