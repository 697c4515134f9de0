// config.json of models with latent attention and a sparse indexer (glm_moe_dsa).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_format.h"
#include "model/config.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The published values of GLM-5.1.
json Published() {
  return json::parse(R"({
    "architectures": ["GlmMoeDsaForCausalLM"], "attention_bias": false, "ep_size": 1,
    "eos_token_id": [154820, 154827, 154829], "first_k_dense_replace": 3, "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 6144, "index_head_dim": 128, "index_n_heads": 32,
    "index_topk": 2048, "indexer_rope_interleave": true, "intermediate_size": 12288,
    "kv_lora_rank": 512, "max_position_embeddings": 202752, "model_type": "glm_moe_dsa",
    "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 256,
    "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 64,
    "num_experts_per_tok": 8, "num_hidden_layers": 78, "num_key_value_heads": 64,
    "num_nextn_predict_layers": 1, "pad_token_id": 154820, "q_lora_rank": 2048,
    "qk_head_dim": 256, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-5,
    "rope_interleave": true, "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": false,
    "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 256, "vocab_size": 154880})");
}

absl::StatusOr<ModelConfig> Parse(const json& config) {
  return ParseModelConfig(config.dump(), "", "dir/config.json");
}

TEST(LatentConfig, ThePublishedValues) {
  const auto config = Parse(Published());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "glm_moe_dsa");
  EXPECT_EQ(config->num_heads, 64);
  EXPECT_EQ(config->rope.theta, 1e6);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(154820, 154827, 154829));
  const auto& shape = std::get<LatentShape>(config->attention);
  EXPECT_EQ(shape.q_lora_rank, 2048);
  EXPECT_EQ(shape.kv_lora_rank, 512);
  EXPECT_EQ(shape.nope_dim, 192);
  EXPECT_EQ(shape.rope_dim, 64);
  EXPECT_EQ(shape.v_dim, 256);
  EXPECT_EQ(shape.qk_dim(), 256);
  EXPECT_EQ(shape.cached_dim(), 576);
  EXPECT_TRUE(shape.rope_interleave);
  EXPECT_EQ(shape.norm_eps, 1e-5f);
  EXPECT_EQ(shape.indexer.topk, 2048);
  EXPECT_EQ(shape.indexer.num_heads, 32);
  EXPECT_EQ(shape.indexer.head_dim, 128);
  EXPECT_TRUE(shape.indexer.rope_interleave);
  EXPECT_EQ(shape.indexer.is_full, std::vector<bool>(78, true));
}

TEST(LatentConfig, TheIndexerRotatesInterleavedWhereTheKeyIsAbsent) {
  json config = Published();
  config.erase("indexer_rope_interleave");
  EXPECT_TRUE(std::get<LatentShape>(Parse(config)->attention).indexer.rope_interleave);
  config["indexer_rope_interleave"] = false;
  EXPECT_FALSE(std::get<LatentShape>(Parse(config)->attention).indexer.rope_interleave);
}

// Which layers choose for themselves: a list, a pattern of letters, or a rhythm.
TEST(LatentConfig, IndexerTypesInEverySpelling) {
  const auto full = [](const json& changes) {
    json config = Published();
    config["num_hidden_layers"] = 8;
    config.update(changes);
    const auto parsed = Parse(config);
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    std::string letters;
    for (const bool is_full : std::get<LatentShape>(parsed->attention).indexer.is_full)
      letters += is_full ? 'F' : 'S';
    return letters;
  };
  EXPECT_EQ(full(json::object()), "FFFFFFFF");
  EXPECT_EQ(full({{"indexer_types",
                   {"full", "shared", "shared", "full", "full", "shared", "shared", "shared"}}}),
            "FSSFFSSS");
  EXPECT_EQ(full({{"index_topk_pattern", "FFSSFFSS"}}), "FFSSFFSS");
  // Layers 0, 1, 2, 6, 10, ...: the rhythm of GLM-5.2.
  EXPECT_EQ(full({{"index_topk_freq", 4}, {"index_skip_topk_offset", 3}}), "FFFSSSFS");
  EXPECT_EQ(full({{"index_topk_freq", 2}}), "FFSFSFSF");
}

struct BadValue {
  std::string key;
  json value;
  std::string message;
};

class BadLatentConfigs : public ::testing::TestWithParam<BadValue> {};

TEST_P(BadLatentConfigs, AreRefusedByFileKeyAndValue) {
  json config = Published();
  config[GetParam().key] = GetParam().value;
  const auto parsed = Parse(config);
  ASSERT_FALSE(parsed.ok()) << GetParam().key;
  EXPECT_THAT(std::string(parsed.status().message()),
              AllOf(HasSubstr("dir/config.json"), HasSubstr(GetParam().key),
                    HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Values, BadLatentConfigs,
    ::testing::Values(
        BadValue{"index_topk", 0, "got 0"}, BadValue{"index_n_heads", nullptr, "missing"},
        BadValue{"q_lora_rank", nullptr, "missing"}, BadValue{"index_head_dim", 32, "got 32"},
        BadValue{"kv_lora_rank", 0, "got 0"}, BadValue{"qk_rope_head_dim", 63, "even number"},
        BadValue{"indexer_types", json{"full"}, "78 layers"},
        BadValue{"indexer_types", json(78, "sometimes"), "layer 0: wanted full or shared"},
        BadValue{"indexer_types", json(78, "shared"), "layer 0: wanted full"},
        BadValue{"index_topk_pattern", std::string(77, 'F'), "78 layers"},
        BadValue{"layer_types", json(78, "linear_attention"), "layer 0: wanted"},
        BadValue{"layer_types", json{"indexed_attention"}, "one entry a layer"}),
    [](const auto& instance) {
      return absl::StrFormat("N%d%s", instance.index, instance.param.key);
    });

}  // namespace
}  // namespace sheaf
