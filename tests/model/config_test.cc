// config.json in its old and new spellings gives the same ModelConfig; impossible values are
// refused by key.

#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tests/model/checkpoint_writer.h"

namespace sheaf {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::WriteFile;

// GLM-4.6 in the spelling of transformers 4.
json OldSpelling() {
  return json::parse(R"({
    "architectures": ["Glm4MoeForCausalLM"], "attention_bias": true, "pad_token_id": 151329,
    "eos_token_id": [151329, 151336, 151338], "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120,
    "partial_rotary_factor": 0.5, "intermediate_size": 12288, "max_position_embeddings": 202752,
    "model_type": "glm4_moe", "moe_intermediate_size": 1536, "norm_topk_prob": true, "num_attention_heads": 96,
    "n_group": 1, "topk_group": 1, "n_routed_experts": 160, "n_shared_experts": 1, "routed_scaling_factor": 2.5,
    "num_experts_per_tok": 8, "first_k_dense_replace": 3, "num_hidden_layers": 92, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 1000000, "num_nextn_predict_layers": 1,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_qk_norm": true, "vocab_size": 151552})");
}

json NewSpelling() {
  json config = OldSpelling();
  for (const char* key :
       {"torch_dtype", "rope_theta", "partial_rotary_factor", "rope_scaling", "n_routed_experts",
        "num_nextn_predict_layers", "first_k_dense_replace"}) {
    config.erase(key);
  }
  config["dtype"] = "bfloat16";
  config["rope_parameters"] = {
      {"rope_theta", 1000000}, {"rope_type", "default"}, {"partial_rotary_factor", 0.5}};
  config["num_local_experts"] = 160;
  config["num_mtp_layers"] = 1;
  config["bos_token_id"] = nullptr;
  config["mlp_layer_types"] = json::array();
  for (int layer = 0; layer < 92; ++layer)
    config["mlp_layer_types"].push_back(layer < 3 ? "dense" : "sparse");
  return config;
}

absl::StatusOr<ModelConfig> Parse(const json& config, const std::string& generation = "") {
  return ParseModelConfig(config.dump(), generation, "dir/config.json");
}

class Spellings : public ::testing::TestWithParam<bool> {};

TEST_P(Spellings, GiveTheSameModel) {
  const auto config = Parse(GetParam() ? NewSpelling() : OldSpelling());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "glm4_moe");
  EXPECT_EQ(config->vocab_size, 151552);
  EXPECT_EQ(config->hidden_size, 5120);
  EXPECT_EQ(config->num_layers, 92);
  EXPECT_EQ(config->num_heads, 96);
  const auto& attention = std::get<GroupedQueryShape>(config->attention);
  EXPECT_EQ(attention.num_kv_heads, 8);
  EXPECT_EQ(attention.head_dim, 128);
  EXPECT_EQ(config->intermediate_size, 12288);
  EXPECT_EQ(config->moe_intermediate_size, 1536);
  EXPECT_EQ(config->num_dense_layers, 3);
  EXPECT_EQ(config->num_experts, 160);
  EXPECT_EQ(config->num_shared_experts, 1);
  EXPECT_EQ(config->experts_per_token, 8);
  EXPECT_TRUE(config->normalize_topk);
  EXPECT_EQ(config->routed_scaling, 2.5f);
  EXPECT_TRUE(attention.bias);
  EXPECT_TRUE(attention.qk_norm);
  EXPECT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->rope.theta, 1e6);
  EXPECT_EQ(attention.rotary_dim, 64);
  EXPECT_EQ(config->max_position_embeddings, 202752);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->num_mtp_layers, 1);
  EXPECT_EQ(config->dtype, "bfloat16");
  EXPECT_THAT(config->eos_token_ids, ElementsAre(151329, 151336, 151338));
  EXPECT_EQ(config->pad_token_id, 151329);
  EXPECT_EQ(config->quantization.method, "");
}

INSTANTIATE_TEST_SUITE_P(OldAndNew, Spellings, ::testing::Bool());

TEST(Config, GenerationConfigAddsToTheEosListAndGivesDefaults) {
  const auto config =
      Parse(OldSpelling(), R"({"eos_token_id": 7, "temperature": 0.6, "top_p": 0.95, "top_k": 40,
                                               "do_sample": true, "pad_token_id": 1})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(151329, 151336, 151338, 7));
  EXPECT_EQ(config->generation.temperature, 0.6f);
  EXPECT_EQ(config->generation.top_p, 0.95f);
  EXPECT_EQ(config->generation.top_k, 40);
  EXPECT_EQ(config->generation.min_p, std::nullopt);
  EXPECT_THAT(std::string(Parse(OldSpelling(), R"({"top_p": 7})").status().message()),
              AllOf(HasSubstr("generation_config.json"), HasSubstr("top_p"), HasSubstr("got 7")));
}

TEST(Config, OtherArchitecturesAreUnimplementedByName) {
  json config = OldSpelling();
  config["model_type"] = "deepseek_v32";
  const auto parsed = Parse(config);
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(parsed.status().message()),
              AllOf(HasSubstr("dir/config.json"), HasSubstr("deepseek_v32")));
}

struct BadValue {
  std::string key;
  json value;
  std::string message;
};

class BadConfigs : public ::testing::TestWithParam<BadValue> {};

TEST_P(BadConfigs, AreRefusedByFileKeyAndValue) {
  json config = OldSpelling();
  config[GetParam().key] = GetParam().value;
  const auto parsed = Parse(config);
  ASSERT_FALSE(parsed.ok()) << GetParam().key;
  EXPECT_THAT(std::string(parsed.status().message()),
              AllOf(HasSubstr("dir/config.json"), HasSubstr(GetParam().key),
                    HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Values, BadConfigs,
    ::testing::Values(
        BadValue{"hidden_size", "wide", "got \"wide\""}, BadValue{"hidden_size", 0, "got 0"},
        BadValue{"hidden_size", 1.5, "got 1.5"}, BadValue{"hidden_size", nullptr, "missing"},
        BadValue{"vocab_size", -3, "got -3"},
        BadValue{"vocab_size", uint64_t{18446744073709551615u}, "got 18446744073709551615"},
        BadValue{"num_key_value_heads", 7, "divisor"},
        BadValue{"num_experts_per_tok", 161, "at most"},
        BadValue{"first_k_dense_replace", -1, "got -1"}, BadValue{"n_group", 7, "divisor"},
        BadValue{"topk_group", 2, "at most n_group"}, BadValue{"rms_norm_eps", "x", "a number"},
        BadValue{"partial_rotary_factor", 0.51, "even number"},
        BadValue{"rope_scaling", json{{"rope_type", "longrope"}}, "got longrope"},
        BadValue{"eos_token_id", json{151329, 151552}, "token ids in 0..151551"},
        BadValue{"eos_token_id", "stop", "token ids"},
        BadValue{"hidden_act", "gelu", "got \"gelu\""},
        BadValue{"quantization_config", 4, "an object"}),
    [](const auto& instance) {
      return absl::StrFormat("N%d%s", instance.index, instance.param.key);
    });

TEST(Config, TextThatIsNoObjectIsRefused) {
  for (const char* text : {"", "{", "[]", "7", "{\"a\":}"}) {
    EXPECT_EQ(ParseModelConfig(text, "", "c").status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_FALSE(ParseModelConfig(std::string(100000, '['), "", "c").ok());
  // What a torn write leaves behind a whole object is not passed over.
  EXPECT_THAT(ParseModelConfig(OldSpelling().dump() + '\0', "", "c").status().message(),
              HasSubstr("c: not JSON: byte"));
}

struct HintsCase {
  std::string name;
  std::string json;
  QuantizationHints wanted;
};

TEST(Config, QuantizationHintsOfEachTool) {
  const HintsCase cases[] = {
      {"GPTQModel",
       R"({"bits":4,"group_size":64,"desc_act":true,"sym":false,"method":"gptq","format":"gptq_v2",
        "meta":{"a":null},"dynamic":{"-:.*x":{},"+:.*y":{"bits":4}}})",
       {"gptq", "gptq_v2", "", 4, 64, false, true, {"re:.*x"}, {}, {}, {}}},
      {"AutoRound",
       R"({"quant_method":"auto-round","packing_format":"auto_round:auto_gptq","bits":4,"group_size":128,
        "sym":true,"extra_config":{"model.layers.3.mlp.gate":{"bits":16},".*l\\.4\\.gate.*":{"bits":16},"k":{"bits":4}}})",
       {"auto-round",
        "",
        "auto_round:auto_gptq",
        4,
        128,
        true,
        false,
        {"search:.*l\\.4\\.gate.*", "model.layers.3.mlp.gate"},
        {},
        {},
        {}}},
      {"CompressedTensors",
       R"({"quant_method":"compressed-tensors","format":"pack-quantized","ignore":["lm_head"],
        "config_groups":{"group_0":{"weights":{"num_bits":4,"group_size":128,"symmetric":false,"strategy":"group",
        "actorder":"group"}}}})",
       {"compressed-tensors", "pack-quantized", "", 4, 128, false, true, {"lm_head"}, {}, {}, {}}},
      {"AutoAwq",
       R"({"quant_method":"awq","bits":4,"group_size":128,"zero_point":true,"version":"gemm",
        "modules_to_not_convert":["gate"]})",
       {"awq", "", "", 4, 128, false, false, {"gate"}, {}, {}, {}}},
  };
  for (const HintsCase& test : cases) {
    SCOPED_TRACE(test.name);
    json config = OldSpelling();
    config["quantization_config"] = json::parse(test.json);
    const auto parsed = Parse(config);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const QuantizationHints& got = parsed->quantization;
    EXPECT_EQ(got.method, test.wanted.method);
    EXPECT_EQ(got.checkpoint_format, test.wanted.checkpoint_format);
    EXPECT_EQ(got.packing_format, test.wanted.packing_format);
    EXPECT_EQ(got.bits, test.wanted.bits);
    EXPECT_EQ(got.group_size, test.wanted.group_size);
    EXPECT_EQ(got.symmetric, test.wanted.symmetric);
    EXPECT_EQ(got.desc_act, test.wanted.desc_act);
    EXPECT_EQ(got.unquantized, test.wanted.unquantized);
  }
}

TEST(Config, LoadReadsTheDirectoryAndTheQuantizersSideFile) {
  const TempDir dir;
  EXPECT_EQ(LoadModelConfig(dir.path()).status().code(), absl::StatusCode::kNotFound);
  WriteFile(dir.path() + "/config.json", OldSpelling().dump());
  WriteFile(dir.path() + "/generation_config.json", R"({"eos_token_id": [5]})");
  WriteFile(dir.path() + "/quantize_config.json",
            R"({"bits": 4, "quant_method": "gptq", "group_size": 32})");
  const auto config = LoadModelConfig(dir.path());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(151329, 151336, 151338, 5));
  EXPECT_EQ(config->quantization.group_size, 32);
}

// Pruned by REAP a config differs in the number of experts, whatever the spelling.
TEST(Config, EveryNumberOfExpertsThatReapLeaves) {
  for (const int experts : {96, 120, 160}) {
    json old_spelling = OldSpelling();
    old_spelling["n_routed_experts"] = experts;
    json new_spelling = NewSpelling();
    new_spelling["num_local_experts"] = experts;
    for (const json& written : {old_spelling, new_spelling}) {
      const auto config = Parse(written);
      ASSERT_TRUE(config.ok()) << config.status();
      EXPECT_EQ(config->num_experts, experts);
      EXPECT_THAT(config->eos_token_ids, ElementsAre(151329, 151336, 151338));
      EXPECT_EQ(std::get<GroupedQueryShape>(config->attention).rotary_dim, 64);
    }
  }
}

// Files that are not ours: the published ones, where they are at hand.
TEST(Config, ReadsThePublishedConfigs) {
  for (const auto& [name, experts] :
       {std::pair("DERIVED_seed_a_GLM-4.6-REAP-268B_config.json", 120),
        std::pair("DERIVED_seed_b_GLM-4.6-REAP-218B_config.json", 96),
        std::pair("glm45/config.json", 160)}) {
    const std::string path = std::string(SHEAF_REFERENCE_DATA) + "/" + name;
    std::ifstream file(path);
    if (!file) GTEST_SKIP() << path << " is not there; the tests above have the same in our words";
    std::stringstream text;
    text << file.rdbuf();
    const auto config = ParseModelConfig(text.str(), "", path);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->num_experts, experts);
    EXPECT_EQ(config->eos_token_ids.size(), 3u);
    EXPECT_EQ(std::get<GroupedQueryShape>(config->attention).rotary_dim, 64);
  }
}

}  // namespace
}  // namespace sheaf
