// The router's weights: every Linear of the model, whole or for a range of heads; what is missing
// is named.

#include "model/decoder_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/model_layout.h"
#include "tests/model/tiny_model.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;
using testing::MakeTinyModel;
using testing::MatrixOf;
using testing::TempDir;
using testing::TestSeed;
using testing::TinyModel;
using testing::TinyStorage;
using testing::Widened;

class DecoderWeightsTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<DecoderWeights>> Load(const TinyModel& model,
                                                       int rank = 0, int num_ranks = 1) {
    model.Write(dir_.path(), 2);
    auto checkpoint = Checkpoint::Open(dir_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    const auto share = ShareOfRank(model.config, rank, num_ranks);
    if (!share.ok()) return share.status();
    return DecoderWeights::Load(**checkpoint, model.config, *share, pool_, nullptr);
  }

  std::mt19937_64 random_{TestSeed()};
  TempDir dir_;
  ThreadPool pool_{2};
};

std::vector<float> Rows(const std::vector<float>& matrix, int k, int first, int count) {
  return {matrix.begin() + ptrdiff_t{first} * k, matrix.begin() + ptrdiff_t{first + count} * k};
}

TEST_F(DecoderWeightsTest, HoldsEveryPartOfTheModel) {
  const TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  const auto weights = Load(model);
  ASSERT_TRUE(weights.ok()) << weights.status();
  ASSERT_EQ((*weights)->layers.size(), 3u);
  for (int l = 0; l < 3; ++l) {
    const LayerWeights& layer = (*weights)->layers[l];
    const auto& attention = std::get<GroupedQueryWeights>(layer.attention);
    const std::string prefix = LayerPrefix(l);
    EXPECT_EQ(layer.input_norm, Widened(model.tensors.at(prefix + ".input_layernorm.weight")));
    EXPECT_EQ(layer.post_attention_norm,
              Widened(model.tensors.at(prefix + ".post_attention_layernorm.weight")));
    EXPECT_EQ(attention.q_norm, Widened(model.tensors.at(prefix + ".self_attn.q_norm.weight")));
    EXPECT_EQ(MatrixOf(attention.q.view()), model.matrices.at(prefix + ".self_attn.q_proj"));
    EXPECT_EQ(MatrixOf(attention.k.view()), model.matrices.at(prefix + ".self_attn.k_proj"));
    EXPECT_EQ(MatrixOf(attention.v.view()), model.matrices.at(prefix + ".self_attn.v_proj"));
    EXPECT_EQ(MatrixOf(layer.attention_out.view()),
              model.matrices.at(prefix + ".self_attn.o_proj"));
    const float* const bias = attention.v.view().bias;
    ASSERT_NE(bias, nullptr);
    EXPECT_EQ(std::vector<float>(bias, bias + 128),
              Widened(model.tensors.at(prefix + ".self_attn.v_proj.bias")));
    EXPECT_EQ(layer.attention_out.view().bias, nullptr);
    const std::string mlp = l == 0 ? ".mlp" : ".mlp.shared_experts";
    EXPECT_EQ(MatrixOf(layer.feed_forward.down.view()),
              model.matrices.at(prefix + mlp + ".down_proj"));
    EXPECT_EQ(layer.gate.n, l == 0 ? 0 : 4);
    EXPECT_EQ(layer.correction_bias.size(), l == 0 ? 0u : 4u);
  }
  EXPECT_EQ((*weights)->embedding.n, 96);
  EXPECT_EQ(MatrixOf((*weights)->lm_head.view()), model.matrices.at("lm_head"));
  EXPECT_GT((*weights)->resident_bytes(), 0u);
}

TEST_F(DecoderWeightsTest, ARankHasItsRowsOfEveryProduct) {
  const TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  for (const int rank : {0, 1}) {
    const auto weights = Load(model, rank, 2);
    ASSERT_TRUE(weights.ok()) << weights.status();
    const LayerWeights& layer = (*weights)->layers[1];
    const auto& attention = std::get<GroupedQueryWeights>(layer.attention);
    const std::string prefix = "model.layers.1.self_attn.";
    EXPECT_EQ(MatrixOf(attention.q.view()),
              Rows(model.matrices.at(prefix + "q_proj"), 128, rank * 128, 128));
    EXPECT_EQ(MatrixOf(attention.k.view()),
              Rows(model.matrices.at(prefix + "k_proj"), 128, rank * 64, 64));
    EXPECT_EQ(MatrixOf(layer.attention_out.view()),
              Rows(model.matrices.at(prefix + "o_proj"), 256, rank * 64, 64));
    const std::vector<float> bias = Widened(model.tensors.at(prefix + "k_proj.bias"));
    EXPECT_EQ(std::vector<float>(attention.k.view().bias, attention.k.view().bias + 64),
              std::vector<float>(bias.begin() + rank * 64, bias.begin() + rank * 64 + 64));
    EXPECT_EQ(layer.gate.n, 2);
    const std::vector<float>& down =
        model.matrices.at("model.layers.1.mlp.shared_experts.down_proj");
    const int inner = static_cast<int>(down.size()) / 128;
    EXPECT_EQ(MatrixOf(layer.feed_forward.down.view()), Rows(down, inner, rank * 64, 64));
    EXPECT_EQ(layer.feed_forward.up.view().k(), 128);
    EXPECT_EQ(MatrixOf((*weights)->lm_head.view()),
              Rows(model.matrices.at("lm_head"), 128, rank * 48, 48));
    EXPECT_EQ((*weights)->embedding.n, 96);
  }
}

TEST_F(DecoderWeightsTest, ARankHasItsRowsOfATiedHeadAndTheWholeEmbedding) {
  const TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_, /*tied_head=*/true);
  const auto weights = Load(model, 1, 2);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->lm_head.view().n(), 48);
  EXPECT_EQ((*weights)->embedding.n, 96);
}

TEST_F(DecoderWeightsTest, ATiedHeadIsTheEmbedding) {
  const TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_, /*tied_head=*/true);
  const auto weights = Load(model);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->lm_head.view().dense.data, (*weights)->embedding.data);
}

TEST_F(DecoderWeightsTest, AStoredHeadCountsBesideATiedConfig) {
  TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_);
  model.config.tie_word_embeddings = true;
  const auto weights = Load(model);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(MatrixOf((*weights)->lm_head.view()), Widened(model.tensors.at("lm_head.weight")));
  EXPECT_NE((*weights)->lm_head.view().dense.data, (*weights)->embedding.data);
}

TEST_F(DecoderWeightsTest, AQuantizedHeadIsRead) {
  TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_);
  model.tensors.erase("lm_head.weight");
  const testing::CodedMatrix matrix = testing::RandomMatrix(96, 128, {}, random_);
  model.tensors.merge(testing::PackGptq(matrix, "lm_head", 1, false));
  const auto weights = Load(model);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(MatrixOf((*weights)->lm_head.view()), matrix.Dequantized());
}

TEST_F(DecoderWeightsTest, WhatIsMissingIsNamed) {
  for (const char* name :
       {"model.norm.weight", "model.embed_tokens.weight", "lm_head.weight",
        "model.layers.1.mlp.gate.e_score_correction_bias", "model.layers.2.mlp.gate.weight",
        "model.layers.0.self_attn.q_proj.bias", "model.layers.2.self_attn.k_norm.weight",
        "model.layers.0.mlp.up_proj.weight"}) {
    TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_);
    ASSERT_EQ(model.tensors.erase(name), 1u);
    const std::string full = name;
    const std::string module = full.substr(0, full.rfind('.'));
    EXPECT_THAT(std::string(Load(model).status().message()), HasSubstr("missing tensor " + module));
  }
}

TEST_F(DecoderWeightsTest, ANormThatIsNotFiniteIsRefused) {
  TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_);
  auto& bytes = model.tensors.at("model.norm.weight").bytes;
  bytes[6] = 0xC0;
  bytes[7] = 0x7F;
  EXPECT_THAT(std::string(Load(model).status().message()),
              HasSubstr("tensor model.norm.weight: wanted finite values, "
                        "got NaN or Inf at element 3"));
}

}  // namespace
}  // namespace sheaf
