// `inspect` from headers alone: the groups, the contradictions, the shares, the reason to refuse,
// and its speed on an index of the real size.

#include "model/inspect/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <map>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "model/quantization/module_patterns.h"
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
using ::testing::StartsWith;
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

TEST_F(Inspect, ShowsEightBitGroupsBesideFourBitOnes) {
  TinyModel model = MakeTinyModel(TinyStorage::kPackQuantized, 4, random_);
  const std::string q = "model.layers.1.self_attn.q_proj", head = "lm_head";
  const auto matrix = testing::RandomMatrix(256, 128, {.bits = 8}, random_);
  const auto head_matrix = testing::RandomMatrix(96, 128, {.group_size = 0, .bits = 8}, random_);
  for (const char* suffix : {".qweight", ".qzeros", ".scales", ".g_idx"})
    model.tensors.erase(q + suffix);
  model.tensors.erase(head + ".weight");
  for (const auto& [name, tensor] : testing::PackGptq(matrix, q, 1, true))
    model.tensors[name] = tensor;
  for (const auto& [name, tensor] : testing::PackIntQuantized(head_matrix, head, false, false))
    model.tensors[name] = tensor;
  auto config = nlohmann::json::parse(model.config_json);
  config["quantization_config"]["config_groups"] = {
      {"group_0",
       {{"weights", {{"num_bits", 8}}},
        {"input_activations", {{"num_bits", 8}, {"dynamic", true}}}}}};
  model.config_json = config.dump();
  const InspectReport report = Report(model);
  EXPECT_EQ(report.refusal, "");
  std::map<int, uint64_t> modules;
  uint64_t bytes = 0;
  for (const TensorGroup& group : report.groups) {
    bytes += group.bytes;
    if (group.part == ModelPart::kAttention && group.format == "gptq")
      modules[group.bits] += group.modules;
  }
  EXPECT_EQ(bytes, report.bytes);
  EXPECT_EQ(modules, (std::map<int, uint64_t>{{4, 11}, {8, 1}}));
  const TensorGroup* const lm_head = FindGroup(report, ModelPart::kLmHead, "int-quantized");
  ASSERT_NE(lm_head, nullptr);
  EXPECT_EQ(lm_head->bits, 8);
  EXPECT_EQ(lm_head->group_size, 128);
  EXPECT_EQ(lm_head->bytes, 96u * 128 + 96 * 2);
  EXPECT_THAT(report.disagreements,
              Contains(HasSubstr("8-bit activations: activations are 16-bit here")));
  EXPECT_THAT(report.disagreements, Not(Contains(HasSubstr("Linears are 8-bit"))));
}

TEST_F(Inspect, FusedExpertsCountTheirTensorsOnce) {
  const InspectReport report = Report(MakeTinyModel(TinyStorage::kFusedF32, 5, random_));
  const TensorGroup* const experts = FindGroup(report, ModelPart::kRoutedExperts, "f32");
  ASSERT_NE(experts, nullptr);
  EXPECT_EQ(experts->modules, 30u);
  EXPECT_EQ(experts->tensors, 4u);
}

// Shared experts in FP8 of blocks, the head in FP8 of rows, whatever sides the blocks are cut to.
TEST_F(Inspect, SaysBitsBlocksAndSizesOfFp8) {
  TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  uint64_t bytes = 0;
  const testing::TestTensors plain = model.tensors;
  for (const auto& [name, unused] : plain) {
    if (name.find("shared_experts") == std::string::npos && name != "lm_head.weight") continue;
    testing::TestTensor& tensor = model.tensors[name];
    const bool is_head = name == "lm_head.weight";
    const int64_t n = tensor.shape[0], k = tensor.shape[1];
    tensor = {"F8_E4M3", {n, k}, std::vector<uint8_t>(static_cast<size_t>(n * k), 0x38)};
    const std::vector<int64_t> blocks = {is_head ? n : (n + 63) / 64, is_head ? 1 : (k + 63) / 64};
    const size_t count = static_cast<size_t>(blocks[0] * blocks[1]);
    model.tensors[name + (is_head ? "_scale" : "_scale_inv")] = {
        "F32", blocks, testing::BytesOf(std::vector<float>(count, 0.5f))};
    if (!is_head) bytes += static_cast<uint64_t>(n * k) + 4 * count;
  }
  model.tensors["lm_head.input_scale"] = {"F32", {1}, testing::BytesOf(std::vector<float>{1})};
  auto config = nlohmann::json::parse(model.config_json);
  config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {32, 32}}};
  model.config_json = config.dump();
  const InspectReport report = Report(model);
  EXPECT_EQ(report.refusal, "");
  const TensorGroup* const shared = FindGroup(report, ModelPart::kSharedExperts, "fp8");
  ASSERT_NE(shared, nullptr);
  EXPECT_EQ(shared->bits, 8);
  EXPECT_EQ(shared->block_rows, 64);
  EXPECT_EQ(shared->group_size, 64);
  EXPECT_EQ(shared->modules, 6u);
  EXPECT_EQ(shared->tensors, 12u);
  EXPECT_EQ(shared->bytes, bytes);
  const TensorGroup* const head = FindGroup(report, ModelPart::kLmHead, "fp8");
  ASSERT_NE(head, nullptr);
  EXPECT_EQ(head->block_rows, 1);
  EXPECT_EQ(head->group_size, -1);
  EXPECT_THAT(InspectText(report), HasSubstr("64x64"));
  EXPECT_THAT(InspectJson(report), HasSubstr("\"block_rows\": 64"));
  EXPECT_THAT(report.disagreements,
              Contains(HasSubstr("says FP8 blocks of 32 x 32, but 7 Linears have others")));
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("1 scales of activations are not used")));
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
              Contains(HasSubstr("calls 12 Linears unquantized that are not")));
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
  ASSERT_EQ(patterns.unread().size(), 1u);
  EXPECT_THAT(patterns.unread()[0], StartsWith("(broken: "));
}

TEST(ModulePatterns, MatchAsTheWritersOfTheFilesDo) {
  // re.match: compressed-tensors' ignore, GPTQModel's dynamic. re.search: AutoRound's extra_config.
  EXPECT_FALSE(ModulePatterns({"re:mlp\\.gate"}).Matches("model.layers.1.mlp.gate"));
  EXPECT_TRUE(ModulePatterns({"re:model.*mlp\\.gate"}).Matches("model.layers.1.mlp.gate_proj"));
  EXPECT_TRUE(ModulePatterns({"search:mlp\\.gate"}).Matches("model.layers.1.mlp.gate"));
  EXPECT_TRUE(ModulePatterns({"re:(?i)MODEL\\.layers\\.[0-3]\\."}).Matches("model.layers.2.x"));
}

TEST(ModulePatterns, NestedRepeatsCostNeitherMemoryNorTime) {
  const auto resident_kb = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  std::vector<std::string> entries = {"re:((a{1000}){1000}){1000}", "re:((((a{9}){9}){9}){9}){9}",
                                      "re:" + std::string(10000, '('), "search:(a*)*(a*)*b"};
  std::string wide;
  for (int i = 0; i < 300; ++i) wide += "(x{1000})";
  entries.push_back("re:" + wide);
  for (int i = 0; i < 5000; ++i) entries.push_back("re:.*(b{900}c" + std::to_string(i) + ")");
  const auto started = std::chrono::steady_clock::now();
  const long before = resident_kb();
  const ModulePatterns patterns(entries);
  EXPECT_FALSE(patterns.Matches("model.layers.1." + std::string(200, 'a')));
  EXPECT_LT(resident_kb() - before, 300 << 10);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(20));
  // Too large, too deep, and what comes after the first thousand.
  EXPECT_GE(patterns.unread().size(), 2u + 4000u);
  EXPECT_THAT(patterns.unread()[0], StartsWith("((a{1000}){1000}){1000}: "));
}

TEST_F(Inspect, NamesAPatternThatCannotBeRead) {
  TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  auto config = nlohmann::json::parse(model.config_json);
  config["quantization_config"]["dynamic"] = {
      {"-:((a{1000}){1000}){1000}", nlohmann::json::object()}};
  model.config_json = config.dump();
  const InspectReport report = Report(model);
  EXPECT_EQ(report.refusal, "");
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("((a{1000}){1000}){1000}: ")));
}

TEST_F(Inspect, ABiasThatIsPromisedIsAskedFor) {
  TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  auto config = nlohmann::json::parse(model.config_json);
  config["attention_bias"] = true;
  model.config_json = config.dump();
  ASSERT_EQ(model.tensors.erase("model.layers.1.self_attn.q_proj.bias"), 1u);
  EXPECT_THAT(Report(model).refusal, HasSubstr("layers.1.self_attn.q_proj.bias"));
}

TEST_F(Inspect, NamesBitsAndMethodsThatTheTensorsDeny) {
  TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  auto config = nlohmann::json::parse(model.config_json);
  config["quantization_config"]["bits"] = 3;
  config["quantization_config"]["quant_method"] = "squeezed";
  model.config_json = config.dump();
  const InspectReport report = Report(model);
  EXPECT_EQ(report.refusal, "");
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("says 3 bits")));
  EXPECT_THAT(report.disagreements, Contains(HasSubstr("\"squeezed\"")));
  EXPECT_EQ(AllRemarks(report), report.disagreements);
}

// Headers and an index of a model of real size in 56 shards; the data are holes in the files.
class HeaderOnlyCheckpoint {
 public:
  HeaderOnlyCheckpoint(const std::string& directory, int hidden)
      : directory_(directory), hidden_(hidden) {}

  size_t tensors() const { return tensors_; }
  size_t gptq_linears() const { return gptq_linears_; }
  size_t plain_linears() const { return plain_linears_; }

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

  void PlainLinear(const std::string& prefix, int64_t n, int64_t k) {
    Plain(prefix + ".weight", {n, k});
    ++plain_linears_;
  }

  void Gptq(const std::string& prefix, int64_t n, int64_t k) {
    Add(prefix + ".g_idx", "I32", {k}, 4);
    Add(prefix + ".qweight", "I32", {k / 8, n}, 4);
    Add(prefix + ".qzeros", "I32", {k / 128, n / 8}, 4);
    Add(prefix + ".scales", "F16", {k / 128, n}, 2);
    ++gptq_linears_;
  }

  void Mlp(const std::string& prefix, int64_t width) {
    Gptq(prefix + "gate_proj", width, hidden_);
    Gptq(prefix + "up_proj", width, hidden_);
    Gptq(prefix + "down_proj", hidden_, width);
  }

  void PlainMlp(const std::string& prefix, int64_t width) {
    PlainLinear(prefix + "gate_proj", width, hidden_);
    PlainLinear(prefix + "up_proj", width, hidden_);
    PlainLinear(prefix + "down_proj", hidden_, width);
  }

  void Experts(int layer, int count, int width) {
    const std::string prefix = LayerPrefix(layer) + ".mlp.";
    Plain(prefix + "gate.weight", {count, hidden_});
    Add(prefix + "gate.e_score_correction_bias", "F32", {count}, 4);
    Mlp(prefix + "shared_experts.", width);
    for (int expert = 0; expert < count; ++expert) Mlp(ExpertPrefix(layer, expert) + ".", width);
  }

  void Write(const std::string& config) {
    for (int i = 0; i < kShards; ++i) {
      const std::string path = absl::StrFormat("%s/s%d.safetensors", directory_, i);
      const std::string head = testing::SafetensorsWithHeader(shards_[i].header + "}", 0);
      testing::WriteFile(path, head);
      std::filesystem::resize_file(path, head.size() + shards_[i].bytes);
    }
    testing::WriteFile(directory_ + "/model.safetensors.index.json",
                       "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + map_ + "}}");
    testing::WriteFile(directory_ + "/config.json", config);
  }

 private:
  static constexpr int kShards = 56;

  struct Shard {
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
    uint64_t bytes = 0;
  };

  std::string directory_;
  int64_t hidden_;
  Shard shards_[kShards];
  std::string map_;
  size_t tensors_ = 0;
  size_t gptq_linears_ = 0;
  size_t plain_linears_ = 0;
};

// GLM-4.6, all 160 experts.
void WriteGlm46(HeaderOnlyCheckpoint& files) {
  files.Plain("model.embed_tokens.weight", {151552, 5120});
  files.Plain("lm_head.weight", {151552, 5120});
  files.Plain("model.norm.weight", {5120});
  for (int layer = 0; layer < 92; ++layer) {
    const std::string prefix = LayerPrefix(layer);
    files.Plain(prefix + ".input_layernorm.weight", {5120});
    files.Plain(prefix + ".post_attention_layernorm.weight", {5120});
    const std::string attention = prefix + ".self_attn.";
    for (const auto& [name, n] :
         {std::pair("q_proj", 12288), std::pair("k_proj", 1024), std::pair("v_proj", 1024)}) {
      files.Gptq(attention + name, n, 5120);
      files.Add(attention + name + ".bias", "F16", {n}, 2);
    }
    files.Gptq(attention + "o_proj", 5120, 12288);
    files.Plain(attention + "q_norm.weight", {128});
    files.Plain(attention + "k_norm.weight", {128});
    if (layer < 3) {
      files.Mlp(prefix + ".mlp.", 12288);
    } else {
      files.Experts(layer, 160, 1536);
    }
  }
  files.Write(R"({
      "model_type": "glm4_moe", "vocab_size": 151552, "hidden_size": 5120, "num_hidden_layers": 92,
      "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288,
      "moe_intermediate_size": 1536, "first_k_dense_replace": 3, "n_routed_experts": 160, "n_shared_experts": 1,
      "num_experts_per_tok": 8, "attention_bias": true, "use_qk_norm": true, "max_position_embeddings": 202752,
      "torch_dtype": "bfloat16", "num_nextn_predict_layers": 1, "rope_theta": 1000000,
      "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true,
                              "checkpoint_format": "gptq", "dynamic": {"-:.*mlp\\.gate$": {}}}})");
}

// GLM-5.1 pruned to 192 experts, quantized as its published file is: dense layers and
// weights_proj unquantized, the rest of the indexer not; the config calls everything float16 and
// lists the modules of the first block only.
void WriteGlm51(HeaderOnlyCheckpoint& files) {
  files.Plain("model.embed_tokens.weight", {154880, 6144});
  files.PlainLinear("lm_head", 154880, 6144);
  files.Plain("model.norm.weight", {6144});
  for (int layer = 0; layer < 78; ++layer) {
    const std::string prefix = LayerPrefix(layer);
    files.Plain(prefix + ".input_layernorm.weight", {6144});
    files.Plain(prefix + ".post_attention_layernorm.weight", {6144});
    const std::string attention = prefix + ".self_attn.";
    files.Gptq(attention + "q_a_proj", 2048, 6144);
    files.Gptq(attention + "q_b_proj", 16384, 2048);
    files.Gptq(attention + "kv_a_proj_with_mqa", 576, 6144);
    files.Gptq(attention + "kv_b_proj", 28672, 512);
    files.Gptq(attention + "o_proj", 6144, 16384);
    files.Plain(attention + "q_a_layernorm.weight", {2048});
    files.Plain(attention + "kv_a_layernorm.weight", {512});
    files.Gptq(attention + "indexer.wq_b", 4096, 2048);
    files.Gptq(attention + "indexer.wk", 128, 6144);
    files.PlainLinear(attention + "indexer.weights_proj", 32, 6144);
    files.Plain(attention + "indexer.k_norm.weight", {128});
    files.Plain(attention + "indexer.k_norm.bias", {128});
    if (layer < 3) {
      files.PlainMlp(prefix + ".mlp.", 12288);
    } else {
      files.Experts(layer, 192, 2048);
    }
  }
  files.Write(R"({
      "model_type": "glm_moe_dsa", "vocab_size": 154880, "hidden_size": 6144, "num_hidden_layers": 78,
      "num_attention_heads": 64, "num_key_value_heads": 64, "head_dim": 64, "intermediate_size": 12288,
      "moe_intermediate_size": 2048, "first_k_dense_replace": 3, "n_routed_experts": 192, "n_shared_experts": 1,
      "num_experts_per_tok": 8, "attention_bias": false, "max_position_embeddings": 202752,
      "q_lora_rank": 2048, "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64,
      "v_head_dim": 256, "index_topk": 2048, "index_n_heads": 32, "index_head_dim": 128,
      "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
      "torch_dtype": "float16", "dtype": "float16", "num_nextn_predict_layers": 1,
      "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true,
          "desc_act": false, "dynamic": {"-:.*mlp.gate$": {}, "-:.*weights_proj.*": {},
                                         "-:.*layers\\.[0-2]\\.mlp.*": {}},
          "modules_in_block_to_quantize": ["self_attn.q_a_proj", "self_attn.indexer.wq_b"]}})");
}

TEST(InspectRealSize, AnIndexOfGlm46IsReadFromItsHeaders) {
  const TempDir dir;
  HeaderOnlyCheckpoint index(dir.path(), 5120);
  WriteGlm46(index);
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

// The counts and sizes that the published file of 192 experts is known by.
TEST(InspectRealSize, Glm51WithItsIndexers) {
  const TempDir dir;
  HeaderOnlyCheckpoint index(dir.path(), 6144);
  WriteGlm51(index);
  // 78 x 7 of attention and indexer, 3 x 75 shared, 3 x 192 x 75 routed; 9 dense, 78 weights_proj,
  // lm_head.
  EXPECT_EQ(index.gptq_linears(), 43971u);
  EXPECT_EQ(index.gptq_linears() + index.plain_linears(), 44059u);
  const InspectReport report = InspectCheckpoint(dir.path(), 8);
  EXPECT_EQ(report.refusal, "");
  EXPECT_EQ(report.tensors, index.tensors());
  const TensorGroup* const experts = FindGroup(report, ModelPart::kRoutedExperts, "gptq");
  ASSERT_NE(experts, nullptr);
  EXPECT_EQ(experts->modules, 3u * 192 * 75);
  EXPECT_EQ(experts->bytes, uint64_t{75} * 192 * (19611648 + 57344));
  uint64_t gptq_modules = 0, plain_linears = 0;
  for (const TensorGroup& group : report.groups) {
    if (group.format == "gptq") gptq_modules += group.modules;
    if (group.part == ModelPart::kDenseMlp || group.part == ModelPart::kLmHead ||
        (group.part == ModelPart::kIndexer && group.format == "bf16")) {
      plain_linears += group.modules;
    }
  }
  EXPECT_EQ(gptq_modules, 43971u);
  EXPECT_EQ(gptq_modules + plain_linears, 44059u);
  EXPECT_NEAR(static_cast<double>(report.bytes) / 1e9, 297.16, 0.01);

  ASSERT_EQ(report.processes.size(), 9u);
  // Of a head the value rows as they are (scales included), and four key parts whose inputs are
  // padded from 192 to 256, with scales of 1 and the inputs' own.
  const uint64_t head_bytes =
      256 * 512 / 2 + 256 * 4 * 2 + 4 * (128 * 256 / 2 + 128 * 2 * 2 + 192 * 4);
  EXPECT_EQ(report.processes[0].absorbed_bytes, uint64_t{78} * 64 * head_bytes);
  for (int worker = 1; worker <= 8; ++worker) {
    EXPECT_EQ(report.processes[worker].num_experts, 24);
    EXPECT_EQ(report.processes[worker].bytes, experts->bytes / 8);
  }
  EXPECT_EQ(InspectCheckpoint(dir.path(), 4).processes[4].bytes, experts->bytes / 4);
}

}  // namespace
}  // namespace sheaf
