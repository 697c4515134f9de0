#include "router/attention/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>

#include "router/attention/grouped_query/grouped_query_attention.h"

namespace sheaf {
namespace {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.num_layers = 3;
  config.num_heads = 8;
  config.attention = GroupedQueryShape{.num_kv_heads = 4, .head_dim = 16};
  return config;
}

TEST(KvCache, HoldsAsManyWholeBlocksAsTheMemoryAllows) {
  const ModelConfig config = SmallConfig();
  const HeadRange heads{0, 4};
  const size_t block = KvCache::BlockBytes(config, {heads}, kernels::KvFormat::kBF16, 16);
  EXPECT_EQ(block, size_t{3} * 2 * 4 * 16 * 16 * 2);
  for (size_t extra : {size_t{0}, block - 1}) {
    const auto cache =
        KvCache::Create(config, {heads}, {kernels::KvFormat::kBF16, 16, 5 * block + extra});
    ASSERT_TRUE(cache.ok());
    EXPECT_EQ((*cache)->num_blocks(), 5);
    EXPECT_EQ((*cache)->capacity_tokens(), 80);
    EXPECT_EQ((*cache)->memory_bytes(), 5 * block);
  }
}

TEST(KvCache, CountsItsBlocksWithoutMemory) {
  const ModelConfig config = SmallConfig();
  const size_t block = KvCache::BlockBytes(config, {0, 4}, kernels::KvFormat::kBF16, 16);
  // More than any machine maps.
  const auto many = KvCache::NumBlocks(config, {0, 4},
                                       {kernels::KvFormat::kBF16, 16, block * 1'000'000'000});
  ASSERT_TRUE(many.ok());
  EXPECT_EQ(*many, 1'000'000'000);
  for (const size_t bytes : {block - 1, block, 7 * block + 3}) {
    const KvCacheOptions options = {kernels::KvFormat::kBF16, 16, bytes};
    const auto counted = KvCache::NumBlocks(config, {0, 4}, options);
    const auto made = KvCache::Create(config, {0, 4}, options);
    ASSERT_EQ(counted.ok(), made.ok());
    EXPECT_EQ(counted.status(), made.status());
    EXPECT_EQ(counted.value_or(0), made.ok() ? (*made)->num_blocks() : 0);
  }
}

TEST(KvCache, BlocksOfAPlaneStandSideBySide) {
  const ModelConfig config = SmallConfig();
  const auto cache = KvCache::Create(config, {0, 4}, {kernels::KvFormat::kBF16, 16, 1 << 20});
  ASSERT_TRUE(cache.ok());
  const KvCache& kv = **cache;
  size_t bytes = 0;
  for (int plane = 0; plane < kv.num_planes(); ++plane) {
    const std::span<uint8_t> first = kv.block(plane, 0);
    EXPECT_EQ(first.data(), kv.plane(plane));
    for (int32_t block = 1; block < kv.num_blocks(); ++block) {
      ASSERT_EQ(kv.block(plane, block).data(), first.data() + first.size() * block);
    }
    bytes += first.size();
  }
  EXPECT_EQ(bytes, KvCache::BlockBytes(config, {0, 4}, kernels::KvFormat::kBF16, 16));
  EXPECT_EQ(bytes * kv.num_blocks(), kv.memory_bytes());
}

TEST(KvCache, ARankHoldsItsHeadsOnly) {
  const ModelConfig config = SmallConfig();
  EXPECT_EQ(2 * KvCache::BlockBytes(config, {2, 2}, kernels::KvFormat::kF32, 8),
            KvCache::BlockBytes(config, {0, 4}, kernels::KvFormat::kF32, 8));
  const auto cache = KvCache::Create(config, {2, 2}, {kernels::KvFormat::kF32, 8, 1 << 20});
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ((*cache)->num_planes(), 3);
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
      const kernels::KvPool pool = GroupedQueryAttention::Pool(
          std::get<GroupedQueryShape>(config.attention), {0, 4}, **cache, layer);
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

// GLM-5.1: a latent of 512 and a rotated key of 64 in each of 78 layers, an index key of 128.
ModelConfig Glm51Attention() {
  ModelConfig config;
  config.model_type = "glm_moe_dsa";
  config.num_layers = 78;
  config.num_heads = 64;
  config.attention = LatentShape{
      .kv_lora_rank = 512,
      .rope_dim = 64,
      .indexer = {
          .topk = 2048, .num_heads = 32, .head_dim = 128, .is_full = std::vector(78, true)}};
  return config;
}

TEST(KvCache, BytesOfATokenOfGlm51) {
  const ModelConfig config = Glm51Attention();
  const auto bytes = [&](kernels::KvFormat format) {
    return KvCache::BlockBytes(config, {0, 64}, format, 1);
  };
  EXPECT_EQ(bytes(kernels::KvFormat::kBF16), 89856u + 19968u);
  EXPECT_EQ(bytes(kernels::KvFormat::kFp8E4M3), 51168u + 10296u);
  EXPECT_EQ(bytes(kernels::KvFormat::kF32), 2 * bytes(kernels::KvFormat::kBF16));
}

TEST(KvCache, LayersThatShareAChoiceHaveNoIndexKeys) {
  ModelConfig config = Glm51Attention();
  auto& is_full = std::get<LatentShape>(config.attention).indexer.is_full;
  for (size_t layer = 2; layer < is_full.size(); ++layer) is_full[layer] = layer % 4 == 2;
  const auto planes = KvCache::PlaneBlockBytes(config, {0, 64}, kernels::KvFormat::kBF16, 1);
  EXPECT_EQ(planes.size(), 78u + 2 + 19);
  EXPECT_EQ(planes[77], 2u * 576);
  EXPECT_EQ(planes[78], 2u * 128);
}

TEST(KvCache, LatentsWithoutIndexersAreOnePlaneALayer) {
  ModelConfig config = Glm51Attention();
  std::get<LatentShape>(config.attention).indexer = {.is_full = std::vector(78, false)};
  EXPECT_EQ(KvCache::PlaneBlockBytes(config, {0, 64}, kernels::KvFormat::kBF16, 1),
            std::vector<size_t>(78, 2 * 576));
}

// 16 positions of a block among 3 ranks: 5, 5 and 6.
TEST(KvCache, RanksShareLatentsAndIndexKeysByPosition) {
  const ModelConfig config = Glm51Attention();
  const auto planes = [&](int rank, bool whole_latents) {
    return KvCache::PlaneBlockBytes(config, {{0, 64}, rank, 3, whole_latents},
                                    kernels::KvFormat::kBF16, 16);
  };
  EXPECT_EQ(planes(0, false)[0], 5u * 2 * 576);
  EXPECT_EQ(planes(2, false)[0], 6u * 2 * 576);
  EXPECT_EQ(planes(2, false)[78], 6u * 2 * 128);
  EXPECT_EQ(planes(0, true)[0], 16u * 2 * 576);
  EXPECT_EQ(planes(0, true)[78], 5u * 2 * 128);
  const absl::Status too_many =
      KvCache::NumBlocks(config, {{0, 64}, 0, 17}, {kernels::KvFormat::kBF16, 16, 1 << 30})
          .status();
  EXPECT_EQ(
      too_many.message(),
      "KV cache of 17 ranks, each of which keeps some positions of every block: wanted a block "
      "size of at least 17 tokens, got 16");
}

// All of them, where every token reads every position.
TEST(KvCache, LatentsWithoutIndexersAreWholeOnEachRank) {
  ModelConfig config = Glm51Attention();
  std::get<LatentShape>(config.attention).indexer = {.is_full = std::vector(78, false)};
  EXPECT_EQ(KvCache::PlaneBlockBytes(config, {{0, 64}, 1, 3}, kernels::KvFormat::kBF16, 16),
            std::vector<size_t>(78, 16 * 2 * 576));
}

TEST(KvCache, LatentsHaveNoE5M2) {
  const auto cache = KvCache::Create(Glm51Attention(), {0, 64},
                                     {kernels::KvFormat::kFp8E5M2, 16, size_t{1} << 30});
  EXPECT_EQ(cache.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(cache.status().message().find("fp8_e5m2"), absl::string_view::npos);
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
