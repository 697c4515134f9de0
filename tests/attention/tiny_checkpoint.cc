#include "tests/attention/tiny_checkpoint.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/check.h"
#include "nlohmann/json.hpp"

namespace sheaf::testing {
namespace {

constexpr int kHidden = 128;
constexpr int kHeadDim = 32;
constexpr int kHeads = 8;
constexpr int kKvHeads = 2;
constexpr int kDense = 192;
constexpr int kExpertWidth = 64;
constexpr int kExperts = 8;
constexpr int kLayers = 3;
constexpr int kGroup = 64;

// Of latent attention.
constexpr int kQueryRank = 64;
constexpr int kLatentRank = 64;
constexpr int kNope = 24;
constexpr int kRope = 8;
constexpr int kValue = 32;
constexpr int kIndexHeads = 2;
constexpr int kIndexDim = 32;
constexpr int kIndexTopk = 12;  // below most prompts' lengths

bool HasIndexer(int layer) { return layer != 1; }

// Collects tensors, then writes one safetensors file.
class Writer {
 public:
  Writer(uint64_t seed, std::map<std::string, std::vector<float>>& floats)
      : random_(seed), floats_(floats) {}

  void Floats(const std::string& name, std::vector<int> shape, double mean, double deviation) {
    size_t count = 1;
    for (int n : shape) count *= n;
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    Add(name, "F32", shape, values.data(), count * sizeof(float));
    floats_[name] = std::move(values);
  }

  void Linear(const std::string& prefix, int n, int k, bool four_bit) {
    if (four_bit) {
      Gptq(prefix, n, k);
    } else {
      Floats(prefix + ".weight", {n, k}, 0, 1 / std::sqrt(double(k)));
    }
  }

  void Write(const std::string& path) {
    const std::string header = header_.dump();
    const uint64_t length = header.size();
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), 8).write(header.data(), header.size());
    file.write(data_.data(), data_.size());
  }

 private:
  void Gptq(const std::string& prefix, int n, int k) {
    std::uniform_int_distribution<uint32_t> nibble(1, 15);  // mean 8: weights around zero
    std::vector<uint32_t> words(size_t(k) / 8 * n);
    for (uint32_t& word : words) {
      for (int j = 0; j < 8; ++j) word |= nibble(random_) << (4 * j);
    }
    const int groups = k / kGroup;
    const std::vector<uint32_t> zeros(size_t(groups) * n / 8, 0x77777777u);
    std::vector<uint16_t> scales(size_t(groups) * n);
    for (uint16_t& scale : scales) scale = (9u << 10) | (random_() & 1023u);  // 2^-6 to 2^-5
    Add(prefix + ".qweight", "I32", {k / 8, n}, words.data(), words.size() * 4);
    Add(prefix + ".qzeros", "I32", {groups, n / 8}, zeros.data(), zeros.size() * 4);
    Add(prefix + ".scales", "F16", {groups, n}, scales.data(), scales.size() * 2);
  }

  void Add(const std::string& name, const char* dtype, const std::vector<int>& shape,
           const void* bytes, size_t count) {
    const size_t begin = data_.size();
    data_.append(static_cast<const char*>(bytes), count);
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, begin + count}}};
  }

  std::mt19937_64 random_;
  std::map<std::string, std::vector<float>>& floats_;
  nlohmann::json header_ = nlohmann::json::object();
  std::string data_;
};

nlohmann::json ConfigJson(const TinyCheckpointOptions& options) {
  nlohmann::json config = {{"architectures", {"Glm4MoeForCausalLM"}},
                           {"model_type", "glm4_moe"},
                           {"vocab_size", options.vocab_size},
                           {"hidden_size", kHidden},
                           {"num_hidden_layers", kLayers},
                           {"num_attention_heads", kHeads},
                           {"num_key_value_heads", kKvHeads},
                           {"head_dim", kHeadDim},
                           {"partial_rotary_factor", 0.5},
                           {"intermediate_size", kDense},
                           {"moe_intermediate_size", kExpertWidth},
                           {"first_k_dense_replace", 1},
                           {"n_routed_experts", kExperts},
                           {"n_shared_experts", options.shared_expert ? 1 : 0},
                           {"num_experts_per_tok", 2},
                           {"n_group", 1},
                           {"topk_group", 1},
                           {"norm_topk_prob", true},
                           {"routed_scaling_factor", 2.5},
                           {"attention_bias", true},
                           {"use_qk_norm", true},
                           {"rms_norm_eps", 1e-5},
                           {"rope_theta", 10000.0},
                           {"max_position_embeddings", 4096},
                           {"tie_word_embeddings", false},
                           {"hidden_act", "silu"},
                           {"torch_dtype", "float32"},
                           {"eos_token_id", {272}}};
  if (options.latent) {
    config.merge_patch({{"architectures", {"GlmMoeDsaForCausalLM"}},
                        {"model_type", "glm_moe_dsa"},
                        {"num_key_value_heads", kHeads},
                        {"attention_bias", false},
                        {"q_lora_rank", kQueryRank},
                        {"kv_lora_rank", kLatentRank},
                        {"qk_nope_head_dim", kNope},
                        {"qk_rope_head_dim", kRope},
                        {"qk_head_dim", kNope + kRope},
                        {"v_head_dim", kValue},
                        {"rope_interleave", true},
                        {"index_head_dim", kIndexDim},
                        {"index_n_heads", kIndexHeads},
                        {"index_topk", kIndexTopk},
                        {"indexer_rope_interleave", true},
                        {"indexer_types", {"full", "shared", "full"}}});
    config.erase("head_dim");
    config.erase("use_qk_norm");
    config.erase("partial_rotary_factor");
  }
  if (options.four_bit) {
    config["quantization_config"] = {{"quant_method", "gptq"},
                                     {"bits", 4},
                                     {"group_size", kGroup},
                                     {"sym", true},
                                     {"desc_act", false}};
  }
  return config;
}

void WriteLatentAttention(Writer& writer, const std::string& prefix, int layer, bool four_bit) {
  writer.Linear(prefix + ".q_a_proj", kQueryRank, kHidden, false);
  writer.Floats(prefix + ".q_a_layernorm.weight", {kQueryRank}, 1, 0.1);
  writer.Linear(prefix + ".q_b_proj", kHeads * (kNope + kRope), kQueryRank, four_bit);
  writer.Linear(prefix + ".kv_a_proj_with_mqa", kLatentRank + kRope, kHidden, false);
  writer.Floats(prefix + ".kv_a_layernorm.weight", {kLatentRank}, 1, 0.1);
  writer.Linear(prefix + ".kv_b_proj", kHeads * (kNope + kValue), kLatentRank, false);
  writer.Linear(prefix + ".o_proj", kHidden, kHeads * kValue, four_bit);
  if (!HasIndexer(layer)) return;
  writer.Linear(prefix + ".indexer.wq_b", kIndexHeads * kIndexDim, kQueryRank, false);
  writer.Linear(prefix + ".indexer.wk", kIndexDim, kHidden, false);
  writer.Linear(prefix + ".indexer.weights_proj", kIndexHeads, kHidden, false);
  writer.Floats(prefix + ".indexer.k_norm.weight", {kIndexDim}, 1, 0.1);
  writer.Floats(prefix + ".indexer.k_norm.bias", {kIndexDim}, 0, 0.1);
}

void WriteGroupedQueryAttention(Writer& writer, const std::string& prefix, bool four_bit) {
  writer.Floats(prefix + ".q_norm.weight", {kHeadDim}, 1.5, 0.1);
  writer.Floats(prefix + ".k_norm.weight", {kHeadDim}, 1.5, 0.1);
  writer.Linear(prefix + ".q_proj", kHeads * kHeadDim, kHidden, four_bit);
  writer.Linear(prefix + ".k_proj", kKvHeads * kHeadDim, kHidden, false);
  writer.Linear(prefix + ".v_proj", kKvHeads * kHeadDim, kHidden, false);
  writer.Linear(prefix + ".o_proj", kHidden, kHeads * kHeadDim, four_bit);
  writer.Floats(prefix + ".q_proj.bias", {kHeads * kHeadDim}, 0, 0.2);
  writer.Floats(prefix + ".k_proj.bias", {kKvHeads * kHeadDim}, 0, 0.2);
  writer.Floats(prefix + ".v_proj.bias", {kKvHeads * kHeadDim}, 0, 0.2);
}

void WriteTensors(Writer& writer, const TinyCheckpointOptions& options) {
  const auto mlp = [&](const std::string& prefix, int width, bool four_bit) {
    writer.Linear(prefix + ".gate_proj", width, kHidden, four_bit);
    writer.Linear(prefix + ".up_proj", width, kHidden, four_bit);
    writer.Linear(prefix + ".down_proj", kHidden, width, four_bit);
  };
  writer.Floats("model.embed_tokens.weight", {options.vocab_size, kHidden}, 0, 1);
  writer.Floats("model.norm.weight", {kHidden}, 1, 0.1);
  writer.Floats("lm_head.weight", {options.vocab_size, kHidden}, 0, 3 / std::sqrt(double(kHidden)));
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    const std::string attention = prefix + ".self_attn";
    writer.Floats(prefix + ".input_layernorm.weight", {kHidden}, 1, 0.1);
    writer.Floats(prefix + ".post_attention_layernorm.weight", {kHidden}, 1, 0.1);
    if (options.latent) {
      WriteLatentAttention(writer, attention, layer, options.four_bit);
    } else {
      WriteGroupedQueryAttention(writer, attention, options.four_bit);
    }
    if (layer == 0) {
      mlp(prefix + ".mlp", kDense, options.four_bit);
      continue;
    }
    writer.Floats(prefix + ".mlp.gate.weight", {kExperts, kHidden}, 0,
                  1 / std::sqrt(double(kHidden)));
    writer.Floats(prefix + ".mlp.gate.e_score_correction_bias", {kExperts}, 0, 0.1);
    for (int expert = 0; expert < kExperts; ++expert) {
      mlp(prefix + ".mlp.experts." + std::to_string(expert), kExpertWidth, options.four_bit);
    }
    if (options.shared_expert) mlp(prefix + ".mlp.shared_experts", kExpertWidth, false);
  }
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  SHEAF_CHECK(value.ok(), "the test's own checkpoint loads");
  return *std::move(value);
}

}  // namespace

TinyCheckpoint::TinyCheckpoint(const TinyCheckpointOptions& options)
    : lm_head_(options.lm_head) {
  std::string name = (std::filesystem::temp_directory_path() / "sheaf-tiny-XXXXXX").string();
  SHEAF_CHECK(mkdtemp(name.data()) != nullptr, "the temporary directory is writable");
  directory_ = name;
  Writer writer(options.seed, float_tensors_);
  WriteTensors(writer, options);
  writer.Write(directory_ + "/model.safetensors");
  std::ofstream(directory_ + "/config.json") << ConfigJson(options).dump();

  ThreadPool pool(1);
  const LoadProgress quiet = [](size_t, size_t) {};
  config_ = Must(LoadModelConfig(directory_));
  const std::unique_ptr<Checkpoint> checkpoint = Must(Checkpoint::Open(directory_));
  weights_ = Must(DecoderWeights::Load(*checkpoint, config_, WholeModel(config_), pool, quiet,
                                        lm_head_));
  slice_ = Must(ExpertSlice::Load(*checkpoint, config_, AllExperts(config_), pool, quiet));
  experts_ = std::make_unique<CpuExperts>(
      config_.num_layers, config_.num_experts,
      [&](LayerId layer, ExpertId expert) { return slice_->Find(layer, expert); });
}

std::unique_ptr<DecoderWeights> TinyCheckpoint::WeightsOf(const RankShare& share) const {
  ThreadPool pool(1);
  const std::unique_ptr<Checkpoint> checkpoint = Must(Checkpoint::Open(directory_));
  return Must(DecoderWeights::Load(*checkpoint, config_, share, pool, [](size_t, size_t) {},
                                   lm_head_));
}

TinyCheckpoint::~TinyCheckpoint() { std::filesystem::remove_all(directory_); }

}  // namespace sheaf::testing
