#include "router/attention/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>

namespace sheaf {
namespace {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.num_layers = 3;
  config.num_heads = 8;
  config.num_kv_heads = 4;
  config.head_dim = 16;
  return config;
}

TEST(KvCache, HoldsAsManyWholeBlocksAsTheMemoryAllows) {
  const ModelConfig config = SmallConfig();
  const HeadRange heads{0, 4};
  const size_t block = KvCache::BlockBytes(config, heads, kernels::KvFormat::kBF16, 16);
  EXPECT_EQ(block, size_t{3} * 2 * 4 * 16 * 16 * 2);
  for (size_t extra : {size_t{0}, block - 1}) {
    const auto cache =
        KvCache::Create(config, heads, {kernels::KvFormat::kBF16, 16, 5 * block + extra});
    ASSERT_TRUE(cache.ok());
    EXPECT_EQ((*cache)->num_blocks(), 5);
    EXPECT_EQ((*cache)->capacity_tokens(), 80);
    EXPECT_EQ((*cache)->memory_bytes(), 5 * block);
  }
}

TEST(KvCache, ARankHoldsItsHeadsOnly) {
  const ModelConfig config = SmallConfig();
  EXPECT_EQ(2 * KvCache::BlockBytes(config, {2, 2}, kernels::KvFormat::kF32, 8),
            KvCache::BlockBytes(config, {0, 4}, kernels::KvFormat::kF32, 8));
  const auto cache = KvCache::Create(config, {2, 2}, {kernels::KvFormat::kF32, 8, 1 << 20});
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ((*cache)->layer(0).num_kv_heads, 2);
}

// Every element of every (layer, block, head, slot) has a place of its own within the memory.
TEST(KvCache, PlacesDoNotOverlap) {
  const ModelConfig config = SmallConfig();
  for (kernels::KvFormat format : {kernels::KvFormat::kF32, kernels::KvFormat::kFp8E4M3}) {
    const size_t block = KvCache::BlockBytes(config, {0, 4}, format, 4);
    const auto cache = KvCache::Create(config, {0, 4}, {format, 4, 3 * block});
    ASSERT_TRUE(cache.ok());
    const size_t place_bytes = 16 * kernels::KvBytes(format);
    size_t total = 0;
    for (int layer = 0; layer < 3; ++layer) {
      const kernels::KvPool pool = (*cache)->layer(layer);
      for (int b = 0; b < 3; ++b) {
        for (int head = 0; head < 4; ++head) {
          for (int slot = 0; slot < 4; ++slot) {
            for (uint8_t* place : {pool.key(b, head, slot), pool.value(b, head, slot)}) {
              for (size_t i = 0; i < place_bytes; ++i) {
                ASSERT_EQ(place[i], 0) << "written twice";
                place[i] = 1;
              }
              total += place_bytes;
            }
          }
        }
      }
    }
    EXPECT_EQ(total, (*cache)->memory_bytes());
  }
}

TEST(KvCache, RefusesWhatCannotBe) {
  const ModelConfig config = SmallConfig();
  const size_t block = KvCache::BlockBytes(config, {0, 4}, kernels::KvFormat::kF32, 16);
  const auto too_small = KvCache::Create(config, {0, 4}, {kernels::KvFormat::kF32, 16, block - 1});
  EXPECT_EQ(too_small.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(too_small.status().message().find(std::to_string(block)), absl::string_view::npos);
  for (int block_size : {0, -1, 100000}) {
    EXPECT_EQ(KvCache::Create(config, {0, 4}, {kernels::KvFormat::kF32, block_size, 1 << 30})
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace sheaf
