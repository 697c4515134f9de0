// Claims beside the weights: calibrated scales of the cache, vocabularies that are larger than the
// embedding, and remarks, which are true or not made.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "model/attention/kv_scales.h"
#include "model/decoder_weights.h"
#include "model/inspect/inspect.h"
#include "model/model_layout.h"
#include "nlohmann/json.hpp"
#include "tests/model/tiny_model.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using testing::BytesOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using testing::MakeTinyModel;
using ::testing::Not;
using testing::TempDir;
using testing::TestSeed;
using testing::TestTensor;
using testing::TinyModel;
using testing::TinyStorage;

class ModelClaims : public ::testing::Test {
 protected:
  static TestTensor Scalar(float value, std::vector<int64_t> shape = {1}) {
    return {"F32", std::move(shape), BytesOf(std::vector<float>{value})};
  }
  absl::StatusOr<KvScales> Scales(const TinyModel& model, int layer) {
    model.Write(dir_.path());
    const auto checkpoint = Checkpoint::Open(dir_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    return ReadKvScales(**checkpoint, layer);
  }
  InspectReport Report(const TinyModel& model) {
    model.Write(dir_.path());
    return InspectCheckpoint(dir_.path(), 0);
  }
  void Set(TinyModel& model, const char* key, nlohmann::json value) {
    auto config = nlohmann::json::parse(model.config_json);
    config[key] = std::move(value);
    model.config_json = config.dump();
  }

  std::mt19937_64 random_{TestSeed()};
  TinyModel model_ = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  TempDir dir_;
  const std::string attention_ = "model.layers.1.self_attn";
};

TEST_F(ModelClaims, KvScalesAreReadUnderEveryName) {
  EXPECT_TRUE(Scales(model_, 1)->identity());
  model_.tensors[attention_ + ".kv_scale"] = Scalar(0.25f);
  EXPECT_EQ(Scales(model_, 1)->k, 0.25f);
  EXPECT_EQ(Scales(model_, 1)->v, 0.25f);
  model_.tensors[attention_ + ".v_proj.output_scale"] = Scalar(0.5f);
  EXPECT_EQ(Scales(model_, 1)->v, 0.5f);
  model_.tensors[attention_ + ".k_proj.k_scale"] = Scalar(2.0f);
  EXPECT_EQ(Scales(model_, 1)->k, 2.0f);
  model_.tensors[attention_ + ".attn.k_scale"] = Scalar(3.0f);
  EXPECT_EQ(Scales(model_, 1)->k, 3.0f);
  model_.tensors[attention_ + ".k_scale"] = Scalar(4.0f, {1, 1});
  EXPECT_EQ(Scales(model_, 1)->k, 4.0f);
  EXPECT_TRUE(Scales(model_, 2)->identity());
}

TEST_F(ModelClaims, KvScalesAreSaidByInspectAndBadOnesRefused) {
  model_.tensors[attention_ + ".k_scale"] = Scalar(0.02f);
  model_.tensors[attention_ + ".v_scale"] = Scalar(0.03f);
  EXPECT_THAT(Report(model_).disagreements,
              Contains(HasSubstr("2 calibrated scales of cached keys and values are used by an "
                                 "e4m3 cache alone")));
  model_.tensors[attention_ + ".v_scale"] = {"F32", {2}, BytesOf(std::vector<float>{1.0f, 2.0f})};
  EXPECT_THAT(Report(model_).disagreements,
              Contains(HasSubstr("1 calibrated scales of cached keys and values are not used, e.g. "
                                 "model.layers.1.self_attn.v_scale")));
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity()}) {
    model_.tensors[attention_ + ".v_scale"] = Scalar(bad);
    EXPECT_THAT(Report(model_).refusal, HasSubstr("model.layers.1.self_attn.v_scale: wanted"));
    auto checkpoint = Checkpoint::Open(dir_.path());
    ThreadPool pool(1);
    const auto weights =
        DecoderWeights::Load(**checkpoint, model_.config, WholeModel(model_.config), pool, nullptr);
    EXPECT_THAT(weights.status().message(), HasSubstr("v_scale: wanted"));
  }
}

TEST_F(ModelClaims, AVocabularyLargerThanEmbeddingAndHeadIsTheirRows) {
  Set(model_, "vocab_size", 128);
  const InspectReport report = Report(model_);
  EXPECT_EQ(report.refusal, "");
  EXPECT_THAT(report.disagreements,
              Contains(HasSubstr("vocab_size says 128, but embedding and lm_head have 96 rows")));
  auto config = LoadModelConfig(dir_.path());
  const auto checkpoint = Checkpoint::Open(dir_.path());
  FitVocabulary(**checkpoint, *config);
  EXPECT_EQ(config->vocab_size, 96);
}

TEST_F(ModelClaims, AVocabularyThatEmbeddingAndHeadDisagreeAboutIsRefused) {
  Set(model_, "vocab_size", 128);
  model_.tensors["lm_head.weight"] = testing::PlainTensor("BF16", {128, 128}, random_);
  const std::string wanted = "model.embed_tokens.weight: wanted shape ";
  EXPECT_THAT(Report(model_).refusal, HasSubstr(wanted + "[128, 128]"));
  Set(model_, "vocab_size", 64);
  EXPECT_THAT(Report(model_).refusal, HasSubstr(wanted + "[64, 128]"));
}

TEST_F(ModelClaims, OneBadTensorAddsNoRemarkAboutTheRest) {
  const std::vector<std::string> before = Report(model_).disagreements;
  const std::string module = "model.layers.1.self_attn.q_proj";
  for (const char* suffix : {".scales", ".qzeros"}) {
    TinyModel damaged = model_;
    TestTensor& tensor = damaged.tensors.at(module + suffix);
    tensor.shape = {tensor.shape[1], tensor.shape[0]};
    const InspectReport report = Report(damaged);
    EXPECT_THAT(report.refusal, HasSubstr(module + suffix));
    EXPECT_EQ(report.disagreements, before);
  }
  TinyModel damaged = model_;
  damaged.tensors.erase("model.layers.2.mlp.experts.3.up_proj.scales");
  const InspectReport report = Report(damaged);
  EXPECT_THAT(report.refusal, HasSubstr("experts.3.up_proj.scales"));
  EXPECT_EQ(report.disagreements, before);
}

TEST_F(ModelClaims, NothingIsConcludedFromLinearsThatCannotBeRead) {
  for (auto& [name, tensor] : model_.tensors) {
    if (name.find(".scales") == std::string::npos) continue;
    tensor.shape = {tensor.shape[1], tensor.shape[0]};
  }
  const InspectReport report = Report(model_);
  EXPECT_NE(report.refusal, "");
  EXPECT_THAT(report.disagreements, Not(Contains(HasSubstr("no Linear is quantized"))));
  EXPECT_THAT(report.disagreements, Not(Contains(HasSubstr("are not used"))));
}

TEST_F(ModelClaims, BitsThatTheTensorsDoNotHaveAreSaid) {
  Set(model_, "quantization_config",
      {{"quant_method", "gptq"}, {"bits", "3"}, {"group_size", 128},
       {"dynamic", {{"+:.*experts.*", {{"bits", 4}}}}}});
  const InspectReport report = Report(model_);
  EXPECT_EQ(report.refusal, "");
  EXPECT_THAT(report.disagreements,
              Contains(HasSubstr("quantization_config says 3 bits, but 12 Linears are 4-bit, e.g. "
                                 "model.layers.0.self_attn")));
}

TEST_F(ModelClaims, RotationsKeptBesideTheWeightsAreRefused) {
  model_.tensors["model.layers.1.mlp.experts.0.down_proj.spinquant_r4_type"] = {
      "I32", {1}, {0, 0, 0, 0}};
  EXPECT_THAT(Report(model_).refusal,
              HasSubstr("down_proj.spinquant_r4_type: wanted weights that need no rotation"));
}

}  // namespace
}  // namespace sheaf
