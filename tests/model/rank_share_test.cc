// What each rank of tensor parallelism makes: together everything, once, in whole units.
#include "model/rank_share.h"

#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

ModelConfig Glm46() {
  ModelConfig config;
  config.model_type = "glm4_moe";
  config.vocab_size = 151552;
  config.hidden_size = 5120;
  config.num_layers = 92;
  config.num_heads = 96;
  GroupedQueryShape& grouped = config.attention.emplace<GroupedQueryShape>();
  grouped.num_kv_heads = 8;
  grouped.head_dim = 128;
  grouped.rotary_dim = 64;
  config.intermediate_size = 12288;
  config.moe_intermediate_size = 1536;
  config.num_dense_layers = 3;
  config.num_experts = 120;
  config.num_shared_experts = 1;
  config.experts_per_token = 8;
  return config;
}

ModelConfig Glm51() {
  ModelConfig config = Glm46();
  config.model_type = "glm_moe_dsa";
  config.hidden_size = 6144;
  config.num_heads = 64;
  LatentShape& latent = config.attention.emplace<LatentShape>();
  latent.q_lora_rank = 2048;
  latent.kv_lora_rank = 512;
  latent.nope_dim = 192;
  latent.rope_dim = 64;
  latent.v_dim = 256;
  latent.indexer.topk = 2048;
  latent.indexer.num_heads = 32;
  latent.indexer.head_dim = 128;
  return config;
}

void ExpectWhole(const std::vector<RankShare>& shares, int total,
                 const std::function<IndexRange(const RankShare&)>& range) {
  int end = 0;
  for (const RankShare& share : shares) {
    EXPECT_EQ(range(share).first, end) << "rank " << share.rank;
    EXPECT_GT(range(share).count, 0) << "rank " << share.rank;
    end = range(share).end();
  }
  EXPECT_EQ(end, total);
}

TEST(RankShare, RanksTogetherMakeEverythingOnce) {
  for (const ModelConfig& config : {Glm46(), Glm51()}) {
    for (const int ranks : {1, 2, 3, 4, 5, 7, 8, 12, 16, 24}) {
      SCOPED_TRACE(ranks);
      const auto shares = ShareAmongRanks(config, ranks);
      ASSERT_TRUE(shares.ok()) << shares.status();
      ExpectWhole(*shares, config.num_heads, [](const RankShare& s) {
        return IndexRange{s.heads.first_query, s.heads.num_queries};
      });
      ExpectWhole(*shares, config.hidden_size, [](const RankShare& s) { return s.hidden; });
      ExpectWhole(*shares, 12288, [](const RankShare& s) { return s.dense_inner; });
      ExpectWhole(*shares, 1536, [](const RankShare& s) { return s.shared_inner; });
      ExpectWhole(*shares, 120, [](const RankShare& s) { return s.gate; });
      ExpectWhole(*shares, 151552, [](const RankShare& s) { return s.vocabulary; });
    }
  }
}

TEST(RankShare, WhatAllHeadsOfLatentAttentionReadIsMadeOnceToo) {
  for (const int ranks : {1, 2, 3, 8, 16, 24}) {
    SCOPED_TRACE(ranks);
    const auto shares = ShareAmongRanks(Glm51(), ranks);
    ASSERT_TRUE(shares.ok()) << shares.status();
    ExpectWhole(*shares, 2048, [](const RankShare& s) { return s.query_latent; });
    ExpectWhole(*shares, 512 + 64, [](const RankShare& s) { return s.latent; });
    ExpectWhole(*shares, 32 * 128, [](const RankShare& s) { return s.index_query; });
    ExpectWhole(*shares, 128, [](const RankShare& s) { return s.index_key; });
    ExpectWhole(*shares, 32, [](const RankShare& s) { return s.index_heads; });
  }
  const RankShare grouped = WholeModel(Glm46());
  EXPECT_EQ(grouped.query_latent.count + grouped.latent.count + grouped.index_query.count, 0);
}

// 12 groups of the shared expert among 8 ranks: one or two each, never a part of one.
TEST(RankShare, InnerRowsAreCutAtActivationGroups) {
  const auto shares = ShareAmongRanks(Glm46(), 8);
  ASSERT_TRUE(shares.ok());
  for (const RankShare& share : *shares) {
    EXPECT_EQ(share.shared_inner.first % kernels::kActivationGroup, 0);
    EXPECT_EQ(share.shared_inner.count % kernels::kActivationGroup, 0);
    EXPECT_LE(share.shared_inner.count, 2 * kernels::kActivationGroup);
    EXPECT_EQ(share.dense_inner.count, 12288 / 8);
  }
}

TEST(RankShare, UpToTheKeyValueHeadsEachRankHasWholeOnes) {
  const auto shares = ShareAmongRanks(Glm46(), 4);
  ASSERT_TRUE(shares.ok());
  for (const RankShare& share : *shares) {
    EXPECT_EQ(share.heads.first, 2 * share.rank);
    EXPECT_EQ(share.heads.count, 2);
    EXPECT_EQ(share.heads.first_query, 24 * share.rank);
    EXPECT_EQ(share.heads.num_queries, 24);
    EXPECT_EQ(share.attended.first, 24 * 128 * share.rank);
    EXPECT_EQ(share.attended.count, 24 * 128);
  }
}

TEST(RankShare, BeyondThemRanksShareAHeadsQueries) {
  const auto shares = ShareAmongRanks(Glm46(), 12);  // of the 8 heads 4 have two ranks
  ASSERT_TRUE(shares.ok());
  for (const RankShare& share : *shares) {
    EXPECT_EQ(share.heads.count, 1);
    EXPECT_EQ(share.heads.first, share.heads.first_query / 12);
    EXPECT_EQ((share.heads.first_query + share.heads.num_queries - 1) / 12, share.heads.first);
  }
}

TEST(RankShare, MoreRanksThanRowsAreRefusedByName) {
  EXPECT_THAT(ShareAmongRanks(Glm46(), 97).status().message(),
              HasSubstr("97 ranks: the model has 96 query heads"));
  EXPECT_THAT(ShareOfRank(Glm46(), 2, 2).status().message(),
              HasSubstr("rank 2 of 2: wanted one of 0..1"));
  EXPECT_FALSE(ShareOfRank(Glm46(), 0, 0).ok());
}

}  // namespace
}  // namespace sheaf
