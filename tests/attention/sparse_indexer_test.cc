// What the sparse indexer promises attention, on an indexer small enough to compute by hand.

#include "router/attention/latent/sparse_indexer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "tests/model/checkpoint_writer.h"

namespace sheaf {
namespace {

constexpr int kHidden = 6;   // 0..3 become the key, 4 and 5 the two head weights
constexpr int kQLatent = 2;  // one element a head
constexpr int kHeads = 2, kDim = 4, kTopk = 2;
constexpr int kBlockSize = 2, kMaxTokens = 16;

// A token: what others see of it, and by what it chooses. Its key's third element is sqrt(2) *
// `key`, which no rotation touches; the queries of the heads have `query` there and 0 elsewhere.
struct Token {
  float key = 0;  // -1 to 1
  float query[kHeads] = {1, 0};
  float weight[kHeads] = {1, 0};
};

ModelConfig Config() {
  ModelConfig config;
  config.hidden_size = kHidden;
  config.num_layers = 2;
  config.num_heads = 1;
  LatentShape shape;
  shape.q_lora_rank = kQLatent;
  shape.kv_lora_rank = 4;
  shape.nope_dim = shape.rope_dim = shape.v_dim = 2;
  shape.indexer = {.topk = kTopk, .num_heads = kHeads, .head_dim = kDim, .is_full = {true, false}};
  config.attention = shape;
  return config;
}

// [rows][columns] with ones at the given places of each row.
testing::TestTensor Picks(int rows, int columns, const std::vector<std::pair<int, int>>& ones) {
  std::vector<float> values(static_cast<size_t>(rows) * columns);
  for (const auto& [row, column] : ones) values[row * columns + column] = 1;
  return {"F32", {rows, columns}, testing::BytesOf(values)};
}

class SparseIndexerTest : public ::testing::Test {
 protected:
  SparseIndexerTest() : config_(Config()), pool_(2), rope_(kMaxTokens, 2, 10000.0) {
    testing::WriteCheckpoint(
        directory_.path(),
        {{"wq_b.weight", Picks(kHeads * kDim, kQLatent, {{2, 0}, {kDim + 2, 1}})},
         {"wk.weight", Picks(kDim, kHidden, {{0, 0}, {1, 1}, {2, 2}, {3, 3}})},
         {"weights_proj.weight", Picks(kHeads, kHidden, {{0, 4}, {1, 5}})}});
    checkpoint_ = *Checkpoint::Open(directory_.path());
    LatentWeights layer;
    layer.indexer.emplace();
    layer.indexer->wq_b = Load("wq_b", kHeads * kDim, kQLatent);
    layer.indexer->wk = Load("wk", kDim, kHidden);
    layer.indexer->weights_proj = Load("weights_proj", kHeads, kHidden);
    layer.indexer->k_norm_weight.assign(kDim, 1.0f);
    layer.indexer->k_norm_bias.assign(kDim, 0.0f);
    weights_.layers.resize(2);
    weights_.layers[0].attention = std::move(layer);
    weights_.layers[1].attention = LatentWeights{};
    cache_ = *KvCache::Create(config_, {AllHeads(config_)},
                              {kernels::KvFormat::kF32, kBlockSize, size_t{1} << 16});
    indexer_ =
        std::make_unique<SparseIndexer>(AttentionParts{config_, weights_, share_,
                                                       *cache_, pool_, kMaxTokens, kMaxTokens},
                                        rope_, config_.num_layers);
  }

  LoadedLinear Load(const char* name, int n, int k) {
    return *LoadLinear(*checkpoint_, {}, name, n, k);
  }

  // One step of `layer` with tokens of one sequence from `first_position` on.
  void Step(const std::vector<Token>& tokens, int first_position, int layer = 0) {
    std::vector<float> normed, q_latent;
    std::vector<StepRow> rows;
    for (const Token& token : tokens) {
      const float rest = std::sqrt(1 - token.key * token.key);
      normed.insert(normed.end(), {rest, -rest, token.key, -token.key});
      normed.insert(normed.end(), token.weight, token.weight + kHeads);
      q_latent.insert(q_latent.end(), token.query, token.query + kHeads);
      rows.push_back({0, first_position + static_cast<int>(rows.size()), table_.data()});
    }
    const int count = static_cast<int>(tokens.size());
    const kernels::Activations x{count, kHidden, normed.data(), {}};
    std::vector<kernels::LinearCall> products;
    indexer_->AddProducts(layer, x, products);
    kernels::RunLinears(pool_, products);
    EXPECT_EQ(indexer_->Run(layer, rows, {count, kQLatent, q_latent.data(), {}}), absl::OkStatus());
  }

  std::vector<int> Chosen(size_t row) const {
    const PositionChoice& choice = indexer_->choices()[row];
    std::vector<int> positions;
    for (int i = 0; i < choice.count; ++i) positions.push_back(choice.at(i));
    return positions;
  }

  using Positions = std::vector<int>;
  const testing::TempDir directory_;
  const ModelConfig config_;
  const RankShare share_ = WholeModel(config_);
  ThreadPool pool_;
  const kernels::RopeTable rope_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  DecoderWeights weights_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<SparseIndexer> indexer_;
  const std::vector<int32_t> table_ = {5, 2, 7, 0, 3, 1, 6, 4};  // blocks, in no order
};

TEST_F(SparseIndexerTest, UpToTopkPositionsAreAllChosen) {
  Step({{.key = -1}, {.key = 0.5f}}, 0);
  EXPECT_EQ(Chosen(0), Positions({0}));
  EXPECT_EQ(Chosen(1), Positions({0, 1}));
}

TEST_F(SparseIndexerTest, BeyondThatTheLargestScoresAreChosenInOrderOfPosition) {
  Step({{.key = 0.1f}, {.key = 0.9f}, {.key = 0.5f}, {.key = 0.8f}, {.key = 0.2f}}, 0);
  EXPECT_EQ(Chosen(2), Positions({1, 2}));
  EXPECT_EQ(Chosen(3), Positions({1, 3}));
  EXPECT_EQ(Chosen(4), Positions({1, 3}));
}

// Tokens 0 and 1 were not scored, but what they stored is seen in later steps.
TEST_F(SparseIndexerTest, KeysAreStoredAlsoWhereNothingIsScored) {
  Step({{.key = 0.7f}}, 0);
  Step({{.key = 0.3f}}, 1);
  Step({{.key = 0.5f}}, 2);
  EXPECT_EQ(Chosen(0), Positions({0, 2}));
  Step({{.key = 0.6f}}, 3);
  EXPECT_EQ(Chosen(0), Positions({0, 3}));
}

TEST_F(SparseIndexerTest, AmongEqualScoresTheLowestPositionIsChosen) {
  Step(std::vector<Token>(6, {.key = 0.5f}), 0);
  for (size_t row = 2; row < 6; ++row) EXPECT_EQ(Chosen(row), Positions({0, 1}));
}

// ReLU comes before the head weight: against a negative weight a key that points away scores 0,
// which is more than any other; keys that score 0 are equal.
TEST_F(SparseIndexerTest, AHeadOfNegativeWeightPrefersWhatPointsAway) {
  Step({{.key = 0.1f}, {.key = 0.9f}, {.key = -0.3f}, {.key = -0.8f}, {.key = -0.1f}}, 0);
  Step({{.key = 0.4f, .weight = {-1, 0}}}, 5);
  EXPECT_EQ(Chosen(0), Positions({2, 3}));
}

// Head 0 likes large keys, head 1 twice as much those below 0.
TEST_F(SparseIndexerTest, HeadsAddUp) {
  Step({{.key = 0.5f}, {.key = 0.1f}, {.key = -0.3f}, {.key = -0.2f}}, 0);
  Step({{.key = 0, .query = {1, -2}, .weight = {1, 1}}}, 4);
  EXPECT_EQ(Chosen(0), Positions({0, 2}));  // 0.5, 0.1, 0.6, 0.4, 0, each times sqrt(2 / 8)
}

TEST_F(SparseIndexerTest, ALayerWithoutAnIndexerKeepsTheChoiceBeforeIt) {
  Step({{.key = 0.1f}, {.key = 0.9f}, {.key = 0.5f}, {.key = 0.8f}}, 0);
  Step(std::vector<Token>(4, {.key = 0.2f}), 0, 1);
  EXPECT_EQ(Chosen(3), Positions({1, 3}));
}

}  // namespace
}  // namespace sheaf
