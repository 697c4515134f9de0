// `inspect` from headers alone: the groups, the contradictions, the shares, the reason to refuse,
// and its speed on an index of the real size.

#include "model/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "model/module_patterns.h"
#include "nlohmann/json.hpp"
#include "tests/model/tiny_model.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeTinyModel;
using ::testing::Not;
using testing::TempDir;
using testing::TestSeed;
using testing::TinyModel;
using testing::TinyStorage;

const TensorGroup* FindGroup(const InspectReport& report, ModelPart part,
                             const std::string& format) {
  for (const TensorGroup& group : report.groups) {
    if (group.part == part && group.format == format) return &group;
  }
  return nullptr;
}

class Inspect : public ::testing::Test {
 protected:
  InspectReport Report(const TinyModel& model, int workers = 2) {
    model.Write(dir_.path(), 2);
    return InspectCheckpoint(dir_.path(), workers);
  }
  std::mt19937_64 random_{TestSeed()};
  TempDir dir_;
};

TEST_F(Inspect, GroupsEveryTensorAndSharesTheExperts) {
  const TinyModel model = MakeTinyModel(TinyStorage::kPackQuantized, 5, random_);
  const InspectReport report = Report(model);
  EXPECT_EQ(report.refusal, "");
  EXPECT_EQ(report.tensors, model.tensors.size());
  const TensorGroup* const experts = FindGroup(report, ModelPart::kRoutedExperts, "pack-quantized");
  ASSERT_NE(experts, nullptr);
  EXPECT_EQ(experts->bits, 4);
  EXPECT_EQ(experts->group_size, 128);
  EXPECT_TRUE(experts->symmetric);
  EXPECT_EQ(experts->modules, 2u * 5 * 3);
  EXPECT_EQ(experts->tensors, 2u * 5 * 3 * 3);
  const TensorGroup* const attention = FindGroup(report, ModelPart::kAttention, "gptq");
  ASSERT_NE(attention, nullptr);
  EXPECT_EQ(attention->modules, 12u);
  EXPECT_EQ(FindGroup(report, ModelPart::kLmHead, "bf16")->bytes, 96u * 128 * 2);
  uint64_t tensors = 0, bytes = 0;
  for (const TensorGroup& group : report.groups) {
    tensors += group.tensors;
    bytes += group.bytes;
  }
  EXPECT_EQ(tensors, report.tensors);
  EXPECT_EQ(bytes, report.bytes);
  ASSERT_EQ(report.processes.size(), 3u);
  EXPECT_EQ(report.processes[1].num_experts + report.processes[2].num_experts, 5);
  EXPECT_EQ(report.processes[0].bytes + report.processes[1].bytes + report.processes[2].bytes,
            report.bytes);
  const InspectReport alone = InspectCheckpoint(dir_.path(), 0);
  ASSERT_EQ(alone.processes.size(), 1u);
  EXPECT_EQ(alone.processes[0].bytes, report.bytes);
}

TEST_F(Inspect, FusedExpertsCountTheirTensorsOnce) {
  const InspectReport report = Report(MakeTinyModel(TinyStorage::kFusedF32, 5, random_));
  const TensorGroup* const experts = FindGroup(report, ModelPart::kRoutedExperts, "f32");
  ASSERT_NE(experts, nullptr);
  EXPECT_EQ(experts->modules, 30u);
  EXPECT_EQ(experts->tensors, 4u);
}

TEST_F(Inspect, SaysWhereTheConfigIsWrong) {
  TinyModel model = MakeTinyModel(TinyStorage::kPackQuantized, 4, random_);
  auto config = nlohmann::json::parse(model.config_json);
  config["torch_dtype"] = "float16";
  config["quantization_config"]["group_size"] = 64;
  config["quantization_config"]["dynamic"] = {{"-:.*self_attn.*", nlohmann::json::object()}};
  model.config_json = config.dump();
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] =
      testing::PlainTensor("F32", {4}, random_);
  const InspectReport report = Report(model);
  EXPECT_EQ(report.refusal, "") << "tensors count, the config does not";
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("dtype says float16")));
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("24 Linears are stored as pack-quantized")));
  EXPECT_THAT(report.disagreements,
              Contains(HasSubstr("says groups of 64, but 36 Linears have groups of 128")));
  EXPECT_THAT(report.disagreements,
              Contains(HasSubstr("calls 12 Linears unquantized that are 4-bit")));
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("no tensors of layer 3")));
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("inv_freq")));
}

TEST_F(Inspect, AgreesWithAnHonestConfig) {
  TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  auto config = nlohmann::json::parse(model.config_json);
  config["num_nextn_predict_layers"] = 0;
  config["quantization_config"]["dynamic"] = {
      {"-:.*mlp\\.(shared|gate|up|down).*", nlohmann::json::object()}};
  model.config_json = config.dump();
  EXPECT_THAT(Report(model).disagreements, IsEmpty());
}

TEST_F(Inspect, ReportsMtpTensorsAsUnused) {
  TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  model.tensors["model.layers.3.eh_proj.weight"] =
      testing::PlainTensor("BF16", {128, 256}, random_);
  const InspectReport report = Report(model);
  EXPECT_NE(FindGroup(report, ModelPart::kMtp, "bf16"), nullptr);
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("multi-token prediction")));
}

TEST_F(Inspect, NamesTheReasonToRefuse) {
  TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  model.tensors.erase("model.layers.1.mlp.experts.2.down_proj.scales");
  const InspectReport report = Report(model);
  EXPECT_THAT(report.refusal,
              HasSubstr("missing tensor model.layers.1.mlp.experts.2.down_proj.scales"));
  EXPECT_THAT(report.processes, IsEmpty());
  EXPECT_THAT(report.groups, Not(IsEmpty()));
  EXPECT_THAT(InspectText(report), HasSubstr("cannot be served"));
}

TEST_F(Inspect, ReportsWhatItCanOfUnknownModelsAndBrokenFiles) {
  TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  auto config = nlohmann::json::parse(model.config_json);
  config["model_type"] = "llama";
  model.config_json = config.dump();
  const InspectReport unknown = Report(model);
  EXPECT_THAT(unknown.refusal, HasSubstr("llama"));
  EXPECT_THAT(unknown.groups, Not(IsEmpty()));
  EXPECT_THAT(InspectCheckpoint(dir_.path() + "/none", 1).refusal, HasSubstr("no such directory"));
}

TEST_F(Inspect, JsonHasEveryFigureOfTheReport) {
  const InspectReport report = Report(MakeTinyModel(TinyStorage::kGptq, 4, random_), 3);
  const auto json = nlohmann::json::parse(InspectJson(report));
  EXPECT_EQ(json["tensors"], report.tensors);
  EXPECT_EQ(json["groups"].size(), report.groups.size());
  EXPECT_EQ(json["processes"][3]["process"], "worker 2");
  EXPECT_EQ(json["servable"], true);
  EXPECT_TRUE(json["refusal"].is_null());
}

TEST(ModulePatterns, FindsNamesSuffixesAndExpressions) {
  const ModulePatterns patterns({"lm_head", "mlp.gate", "re:.*layers\\.(0|1)\\.self_attn.*",
                                 "re:(broken", "re:^mtp\\.\\d+\\.(?:a|b)$"});
  EXPECT_TRUE(patterns.Matches("lm_head"));
  EXPECT_TRUE(patterns.Matches("model.layers.7.mlp.gate"));
  EXPECT_FALSE(patterns.Matches("model.layers.7.mlp.gate_proj"));
  EXPECT_TRUE(patterns.Matches("model.layers.1.self_attn.q_proj"));
  EXPECT_FALSE(patterns.Matches("model.layers.11.self_attn.q_proj"));
  EXPECT_TRUE(patterns.Matches("mtp.12.b"));
  EXPECT_FALSE(patterns.Matches("mtp.x.b"));
  EXPECT_EQ(RequiredLiteral(".*model\\.layers\\.1\\.mlp\\.gate.*"), "model.layers.1.mlp.gate");
  EXPECT_EQ(RequiredLiteral("a|b"), "");
  EXPECT_EQ(RequiredLiteral("abx?cd(ef)?g"), "ab");
  EXPECT_EQ(RequiredLiteral("\\d+\\w"), "");
}

// Headers and an index of GLM-4.6 with 160 experts in 56 shards; the data are holes in the files.
class RealSizeIndex {
 public:
  explicit RealSizeIndex(const std::string& directory) : directory_(directory) {
    Plain("model.embed_tokens.weight", {151552, 5120});
    Plain("lm_head.weight", {151552, 5120});
    Plain("model.norm.weight", {5120});
    for (int layer = 0; layer < 92; ++layer) {
      const std::string prefix = LayerPrefix(layer);
      Plain(prefix + ".input_layernorm.weight", {5120});
      Plain(prefix + ".post_attention_layernorm.weight", {5120});
      Attention(prefix + ".self_attn.");
      if (layer < 3) {
        Mlp(prefix + ".mlp.", 12288);
        continue;
      }
      Plain(prefix + ".mlp.gate.weight", {160, 5120});
      Add(prefix + ".mlp.gate.e_score_correction_bias", "F32", {160}, 4);
      Mlp(prefix + ".mlp.shared_experts.", 1536);
      for (int expert = 0; expert < 160; ++expert) {
        Mlp(ExpertPrefix(layer, expert) + ".", 1536);
      }
    }
    Write();
  }

  size_t tensors() const { return tensors_; }

 private:
  static constexpr int kShards = 56;

  struct Shard {
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
    uint64_t bytes = 0;
  };

  void Add(const std::string& name, const std::string& dtype, const std::vector<int64_t>& shape,
           uint64_t element) {
    const size_t number = tensors_++ % kShards;
    Shard& shard = shards_[number];
    uint64_t bytes = element;
    for (const int64_t size : shape) bytes *= static_cast<uint64_t>(size);
    shard.header +=
        absl::StrFormat(R"(,"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]})", name, dtype,
                        absl::StrJoin(shape, ","), shard.bytes, shard.bytes + bytes);
    shard.bytes += bytes;
    map_ += absl::StrFormat(R"(%s"%s":"s%d.safetensors")", map_.empty() ? "" : ",", name, number);
  }

  void Plain(const std::string& name, const std::vector<int64_t>& shape) {
    Add(name, "BF16", shape, 2);
  }

  void Gptq(const std::string& prefix, int64_t n, int64_t k) {
    Add(prefix + ".g_idx", "I32", {k}, 4);
    Add(prefix + ".qweight", "I32", {k / 8, n}, 4);
    Add(prefix + ".qzeros", "I32", {k / 128, n / 8}, 4);
    Add(prefix + ".scales", "F16", {k / 128, n}, 2);
  }

  void Attention(const std::string& prefix) {
    for (const auto& [name, n] :
         {std::pair("q_proj", 12288), std::pair("k_proj", 1024), std::pair("v_proj", 1024)}) {
      Gptq(prefix + name, n, 5120);
      Add(prefix + name + ".bias", "F16", {n}, 2);
    }
    Gptq(prefix + "o_proj", 5120, 12288);
    Plain(prefix + "q_norm.weight", {128});
    Plain(prefix + "k_norm.weight", {128});
  }

  void Mlp(const std::string& prefix, int64_t width) {
    Gptq(prefix + "gate_proj", width, 5120);
    Gptq(prefix + "up_proj", width, 5120);
    Gptq(prefix + "down_proj", 5120, width);
  }

  void Write() {
    for (int i = 0; i < kShards; ++i) {
      const std::string path = absl::StrFormat("%s/s%d.safetensors", directory_, i);
      const std::string head = testing::SafetensorsWithHeader(shards_[i].header + "}", 0);
      testing::WriteFile(path, head);
      std::filesystem::resize_file(path, head.size() + shards_[i].bytes);
    }
    testing::WriteFile(directory_ + "/model.safetensors.index.json",
                       "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + map_ + "}}");
    testing::WriteFile(directory_ + "/config.json", R"({
      "model_type": "glm4_moe", "vocab_size": 151552, "hidden_size": 5120, "num_hidden_layers": 92,
      "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288,
      "moe_intermediate_size": 1536, "first_k_dense_replace": 3, "n_routed_experts": 160, "n_shared_experts": 1,
      "num_experts_per_tok": 8, "attention_bias": true, "use_qk_norm": true, "max_position_embeddings": 202752,
      "torch_dtype": "bfloat16", "num_nextn_predict_layers": 1,
      "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true,
                              "checkpoint_format": "gptq", "dynamic": {"-:.*mlp\\.gate$": {}}}})");
  }

  std::string directory_;
  Shard shards_[kShards];
  std::string map_;
  size_t tensors_ = 0;
};

TEST(InspectRealSize, AnIndexOfGlm46IsReadFromItsHeaders) {
  const TempDir dir;
  const RealSizeIndex index(dir.path());
  const std::clock_t start = std::clock();
  const InspectReport report = InspectCheckpoint(dir.path(), 8);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%zu tensors in %.2f s of processor time\n", index.tensors(), seconds);
  EXPECT_EQ(report.refusal, "");
  EXPECT_EQ(report.tensors, index.tensors());
  EXPECT_EQ(report.shards, 56u);
  const TensorGroup* const experts = FindGroup(report, ModelPart::kRoutedExperts, "gptq");
  ASSERT_NE(experts, nullptr);
  // 12,257,280 bytes an expert and 47,104 of g_idx.
  EXPECT_EQ(experts->bytes, uint64_t{89} * 160 * (12257280 + 47104));
  EXPECT_EQ(report.processes.size(), 9u);
  EXPECT_EQ(report.disagreements.size(), 1u) << "MTP";
  // A second is the aim of a release build; this bound is for sanitizers.
  EXPECT_LT(seconds, 10.0);
}

}  // namespace
}  // namespace sheaf
