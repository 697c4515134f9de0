// What config.json means where it is silent, or says things in the words of one version of
// transformers: the same as there, for every model type. The expected numbers are those that the
// configuration classes of transformers 4.54 to 5.24 give back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/str_format.h"
#include "model/config.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kTypes[] = {"glm4_moe", "glm4_moe_lite", "glm_moe_dsa"};

// The widths that have no default, and nothing else.
json Bare(const std::string& model_type) {
  json config = {{"model_type", model_type}, {"vocab_size", 1000},
                 {"hidden_size", 512},       {"num_hidden_layers", 6},
                 {"num_attention_heads", 8}, {"intermediate_size", 640},
                 {"moe_intermediate_size", 128}, {"n_routed_experts", 32}};
  if (model_type == "glm4_moe") return config;
  config.update({{"q_lora_rank", 192}, {"kv_lora_rank", 128}, {"qk_nope_head_dim", 48},
                 {"qk_rope_head_dim", 32}, {"v_head_dim", 64}});
  if (model_type == "glm_moe_dsa") config.update({{"index_n_heads", 4}, {"index_head_dim", 64}});
  return config;
}

json With(const std::string& model_type, const json& changes) {
  json config = Bare(model_type);
  config.update(changes);
  return config;
}

absl::StatusOr<ModelConfig> Parse(const json& config, const std::string& generation = "") {
  return ParseModelConfig(config.dump(), generation, "dir/config.json");
}

ModelConfig MustParse(const json& config, const std::string& generation = "") {
  auto parsed = Parse(config, generation);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? *std::move(parsed) : ModelConfig{};
}

std::string Refusal(const json& config, absl::StatusCode code) {
  const auto parsed = Parse(config);
  EXPECT_EQ(parsed.status().code(), code) << parsed.status();
  return std::string(parsed.status().message());
}

TEST(ConfigDefaults, AreThoseOfTheLibraryByModelType) {
  struct Wanted {
    const char* model_type;
    int dense_layers, experts_per_token, positions;
    float routed_scaling;
  };
  for (const Wanted& wanted : {Wanted{"glm4_moe", 1, 8, 131072, 1.0f},
                               Wanted{"glm4_moe_lite", 1, 4, 202752, 1.8f},
                               Wanted{"glm_moe_dsa", 3, 8, 202752, 2.5f}}) {
    SCOPED_TRACE(wanted.model_type);
    const ModelConfig config = MustParse(Bare(wanted.model_type));
    EXPECT_EQ(config.num_dense_layers, wanted.dense_layers);
    EXPECT_EQ(config.experts_per_token, wanted.experts_per_token);
    EXPECT_EQ(config.max_position_embeddings, wanted.positions);
    EXPECT_EQ(config.routed_scaling, wanted.routed_scaling);
    EXPECT_EQ(config.num_shared_experts, 1);
    EXPECT_EQ(config.num_groups, 1);
    EXPECT_EQ(config.topk_groups, 1);
    EXPECT_TRUE(config.normalize_topk);
    EXPECT_EQ(config.rms_norm_eps, 1e-5f);
    EXPECT_FALSE(config.tie_word_embeddings);
    EXPECT_EQ(config.rope.theta, 10000.0);
    EXPECT_THAT(config.remarks, Contains(HasSubstr("rope_theta is nowhere")));
    EXPECT_THAT(config.eos_token_ids, IsEmpty());
  }
  const auto grouped = std::get<GroupedQueryShape>(MustParse(Bare("glm4_moe")).attention);
  EXPECT_EQ(grouped.num_kv_heads, 8);
  EXPECT_EQ(grouped.head_dim, 64);
  EXPECT_EQ(grouped.rotary_dim, 32);
  EXPECT_FALSE(grouped.bias);
  EXPECT_FALSE(grouped.qk_norm);
  const auto sparse = std::get<LatentShape>(MustParse(Bare("glm_moe_dsa")).attention);
  EXPECT_EQ(sparse.indexer.topk, 2048);
  EXPECT_EQ(sparse.indexer.is_full, std::vector<bool>(6, true));
  EXPECT_TRUE(sparse.rope_interleave);
  const auto dense = std::get<LatentShape>(MustParse(Bare("glm4_moe_lite")).attention);
  EXPECT_EQ(dense.indexer.topk, 0);
  EXPECT_EQ(dense.indexer.is_full, std::vector<bool>(6, false));
  EXPECT_EQ(dense.q_lora_rank, 192);
}

TEST(ConfigDefaults, NullIsAbsent) {
  for (const char* type : kTypes) {
    const ModelConfig config = MustParse(
        With(type, {{"routed_scaling_factor", nullptr}, {"n_group", nullptr},
                    {"rope_scaling", nullptr}, {"rope_parameters", nullptr},
                    {"mlp_layer_types", nullptr}, {"layer_types", nullptr},
                    {"sliding_window", nullptr}, {"eos_token_id", nullptr}}));
    EXPECT_EQ(config.routed_scaling, MustParse(Bare(type)).routed_scaling);
  }
}

TEST(ConfigDefaults, QLoraRankNullMeansDirectQueriesWithoutAnIndexer) {
  const ModelConfig config = MustParse(With("glm4_moe_lite", {{"q_lora_rank", nullptr}}));
  EXPECT_EQ(std::get<LatentShape>(config.attention).q_lora_rank, 0);
  EXPECT_THAT(Refusal(With("glm_moe_dsa", {{"q_lora_rank", nullptr}}),
                      absl::StatusCode::kInvalidArgument),
              HasSubstr("q_lora_rank"));
}

TEST(ConfigDefaults, LayerTypesInTheWordsOfEveryVersion) {
  for (const char* name : {"deepseek_sparse_attention", "indexed_attention", "full_attention",
                           "attention"}) {
    EXPECT_TRUE(Parse(With("glm_moe_dsa", {{"layer_types", json(6, name)}})).ok()) << name;
  }
  EXPECT_TRUE(Parse(With("glm4_moe", {{"layer_types", json(6, "full_attention")}})).ok());
  json mixed(6, "indexed_attention");
  mixed[4] = "sliding_attention";
  EXPECT_THAT(Refusal(With("glm_moe_dsa", {{"layer_types", mixed}}),
                      absl::StatusCode::kUnimplemented),
              AllOf(HasSubstr("dir/config.json"), HasSubstr("layer_types: layer 4"),
                    HasSubstr("wanted \"indexed_attention\""), HasSubstr("sliding_attention")));
  for (const char* type : {"glm4_moe", "glm4_moe_lite"}) {
    EXPECT_THAT(Refusal(With(type, {{"layer_types", json(6, "deepseek_sparse_attention")}}),
                        absl::StatusCode::kUnimplemented),
                HasSubstr("layer 0"));
  }
}

TEST(ConfigDefaults, DenseLayersByTheKeyThatTheClassReads) {
  const json two = {"dense", "dense", "sparse", "sparse", "sparse", "sparse"};
  for (const char* type : kTypes) {
    EXPECT_EQ(MustParse(With(type, {{"first_k_dense_replace", 4}})).num_dense_layers, 4);
    EXPECT_EQ(MustParse(With(type, {{"mlp_layer_types", two}})).num_dense_layers, 2);
    EXPECT_EQ(MustParse(With(type, {{"first_k_dense_replace", 9}})).num_dense_layers, 6);
  }
  const json both = {{"mlp_layer_types", two}, {"first_k_dense_replace", 1}};
  EXPECT_EQ(MustParse(With("glm4_moe", both)).num_dense_layers, 1);
  EXPECT_EQ(MustParse(With("glm4_moe_lite", both)).num_dense_layers, 2);
  const ModelConfig sparse = MustParse(With("glm_moe_dsa", both));
  EXPECT_EQ(sparse.num_dense_layers, 2);
  EXPECT_THAT(sparse.remarks, Contains(HasSubstr("first_k_dense_replace is 1")));
}

TEST(ConfigDefaults, TheNumberOfExpertsUnderEveryName) {
  for (const char* type : kTypes) {
    for (const char* name : {"num_local_experts", "num_experts"}) {
      json config = With(type, {{name, 24}});
      config.erase("n_routed_experts");
      EXPECT_EQ(MustParse(config).num_experts, 24) << type << " " << name;
    }
    json none = Bare(type);
    none.erase("n_routed_experts");
    EXPECT_THAT(Refusal(none, absl::StatusCode::kInvalidArgument),
                HasSubstr("n_routed_experts: missing"));
  }
  EXPECT_EQ(MustParse(With("glm4_moe", {{"num_experts", 24}})).num_experts, 32);
  const ModelConfig config = MustParse(With("glm_moe_dsa", {{"num_experts", 24}}));
  EXPECT_EQ(config.num_experts, 24);
  EXPECT_THAT(config.remarks, Contains(HasSubstr("n_routed_experts is 32")));
  // A sampling parameter of old files, not a number of experts.
  EXPECT_EQ(MustParse(With("glm4_moe", {{"top_k", 50}})).experts_per_token, 8);
}

TEST(ConfigDefaults, NumbersAsStringsAndIntegralFloats) {
  json config = With("glm4_moe", {{"max_position_embeddings", "202752"}, {"hidden_size", 512.0},
                                  {"rope_theta", "1e6"}, {"rms_norm_eps", "1e-6"},
                                  {"eos_token_id", {"7", 8.0}}, {"num_nextn_predict_layers", "1"}});
  config["quantization_config"] = {{"quant_method", "gptq"}, {"bits", "4"}, {"group_size", "128"}};
  const ModelConfig parsed =
      MustParse(config, R"({"temperature": "0.6", "top_k": 40.0, "max_new_tokens": "100"})");
  EXPECT_EQ(parsed.max_position_embeddings, 202752);
  EXPECT_EQ(parsed.hidden_size, 512);
  EXPECT_EQ(parsed.rope.theta, 1e6);
  EXPECT_EQ(parsed.rms_norm_eps, 1e-6f);
  EXPECT_THAT(parsed.eos_token_ids, ElementsAre(7, 8));
  EXPECT_EQ(parsed.quantization.bits, 4);
  EXPECT_EQ(parsed.quantization.group_size, 128);
  EXPECT_EQ(parsed.generation.temperature, 0.6f);
  EXPECT_EQ(parsed.generation.top_k, 40);
  EXPECT_EQ(parsed.generation.max_new_tokens, 100);
  for (const char* bad : {"12x", "", "nan", "1e400"}) {
    EXPECT_THAT(Refusal(With("glm4_moe", {{"max_position_embeddings", bad}}),
                        absl::StatusCode::kInvalidArgument),
                HasSubstr("max_position_embeddings: wanted an integer"));
  }
}

TEST(ConfigDefaults, EndsOfBothFilesCount) {
  const auto ends = [](const json& eos, const std::string& generation) {
    return MustParse(With("glm4_moe", {{"eos_token_id", eos}}), generation).eos_token_ids;
  };
  EXPECT_THAT(ends({1, 2, 3}, R"({"eos_token_id": 1})"), ElementsAre(1, 2, 3));
  EXPECT_THAT(ends(1, R"({"eos_token_id": [1, 4]})"), ElementsAre(1, 4));
  EXPECT_THAT(ends({1, 2}, R"({"eos_token_id": []})"), ElementsAre(1, 2));
  EXPECT_THAT(ends({1, 2}, "{}"), ElementsAre(1, 2));
  EXPECT_THAT(ends(json::array(), R"({"eos_token_id": null})"), IsEmpty());
  EXPECT_THAT(ends(-1, "{}"), IsEmpty());
}

TEST(ConfigDefaults, PadAndBosOfAnyKindDoNotStopTheStart) {
  for (const json& id : {json(-1), json(1000), json::array({3, 4}), json("x"), json(1.5)}) {
    const ModelConfig config =
        MustParse(With("glm_moe_dsa", {{"pad_token_id", id}, {"bos_token_id", id}}),
                  R"({"pad_token_id": -1, "bos_token_id": [1]})");
    EXPECT_EQ(config.pad_token_id, std::nullopt);
    EXPECT_THAT(config.remarks, Contains(HasSubstr("pad_token_id")));
  }
  EXPECT_EQ(MustParse(With("glm4_moe", {{"pad_token_id", 7}})).pad_token_id, 7);
}

TEST(ConfigDefaults, DoSampleFalseIsGreedy) {
  const ModelConfig config =
      MustParse(Bare("glm4_moe"), R"({"do_sample": false, "temperature": 0.6, "top_p": 0.9})");
  EXPECT_EQ(config.generation.temperature, 0.0f);
  EXPECT_EQ(config.generation.top_p, 0.9f);
  EXPECT_THAT(config.remarks, Contains(HasSubstr("do_sample is false")));
  EXPECT_EQ(MustParse(Bare("glm4_moe"), R"({"do_sample": true})").generation.temperature,
            std::nullopt);
}

TEST(ConfigDefaults, KeysOfOtherArithmeticAreRefusedByName) {
  const std::pair<const char*, json> bad[] = {
      {"moe_layer_freq", 2},          {"moe_layer_freq", {0, 1, 1}}, {"sliding_window", 4096},
      {"attn_logit_softcapping", 50}, {"scale_embeddings", true},    {"topk_method", "greedy"},
      {"hidden_act", "gelu"},         {"scoring_func", "softmax"},   {"swiglu_limit", 7.0},
      {"rope_ratio", 500},            {"residual_multiplier", 0.5}};
  for (const char* type : kTypes) {
    for (const auto& [key, value] : bad) {
      EXPECT_THAT(Refusal(With(type, {{key, value}}), absl::StatusCode::kUnimplemented),
                  AllOf(HasSubstr("dir/config.json"), HasSubstr(key), HasSubstr("wanted"),
                        HasSubstr("got " + value.dump())));
    }
    EXPECT_TRUE(Parse(With(type, {{"moe_layer_freq", 1}, {"sliding_window", 4096},
                                  {"use_sliding_window", false}, {"scale_embeddings", false},
                                  {"attn_logit_softcapping", nullptr}, {"hidden_act", "swish"},
                                  {"topk_method", "noaux_tc"}, {"moe_router_dtype", "float32"},
                                  {"ep_size", 1}, {"pretraining_tp", 1}}))
                    .ok());
  }
}

TEST(ConfigDefaults, ThePublishedShapeOfGlm52) {
  json types(6, "sparse"), indexers(6, "shared");
  for (int layer : {0, 1, 2}) types[static_cast<size_t>(layer)] = "dense";
  for (int layer : {0, 1, 2}) indexers[static_cast<size_t>(layer)] = "full";
  const ModelConfig config = MustParse(With(
      "glm_moe_dsa",
      {{"mlp_layer_types", types}, {"indexer_types", indexers}, {"index_topk_freq", 4},
       {"index_skip_topk_offset", 3}, {"index_topk_pattern", nullptr}, {"head_dim", 192},
       {"max_position_embeddings", 1048576}, {"moe_router_dtype", "float32"},
       {"index_share_for_mtp_iteration", true}, {"index_topk", 2048},
       {"rope_parameters", {{"rope_theta", 8000000}, {"rope_type", "default"}}}}));
  EXPECT_EQ(config.rope.theta, 8e6);
  EXPECT_EQ(config.max_position_embeddings, 1048576);
  const auto& shape = std::get<LatentShape>(config.attention);
  EXPECT_EQ(shape.indexer.is_full, (std::vector<bool>{true, true, true, false, false, false}));
  EXPECT_THAT(config.remarks, IsEmpty());
}

TEST(ConfigDefaults, AChoiceOfMorePositionsThanThereAreIsAllOfThem) {
  const ModelConfig config =
      MustParse(With("glm_moe_dsa", {{"max_position_embeddings", 512}, {"rope_theta", 1e6}}));
  EXPECT_EQ(std::get<LatentShape>(config.attention).indexer.topk, 512);
}

}  // namespace
}  // namespace sheaf
