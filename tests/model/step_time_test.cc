// How long a step would take, against numbers worked out by hand.

#include "model/inspect/step_time.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sheaf {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.attention = GroupedQueryShape{.num_kv_heads = 2, .head_dim = 128};
  config.num_heads = 4;
  config.hidden_size = 256;
  config.intermediate_size = 512;
  config.moe_intermediate_size = 128;
  config.num_layers = 3;
  config.num_dense_layers = 1;
  config.num_experts = 16;
  config.experts_per_token = 4;
  config.num_shared_experts = 1;
  config.vocab_size = 1024;
  return config;
}

StepModel Model(const ModelConfig& config, int ranks, int workers) {
  StepModel model;
  model.config = &config;
  model.shares = *ShareAmongRanks(config, ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    model.weights.push_back({.dense_layers = 1000,
                             .moe_layers = 4000,
                             .shared_experts = 600,
                             .head = 500,
                             .embedding = 500,
                             .other = 10});
  }
  model.weights.back().moe_layers = 5000;  // the slowest rank is waited for
  model.expert_bytes = 100;
  model.kv_bytes_per_token = 10;
  model.workers = workers;
  return model;
}

// Of 3,000 positions a row reads 2,000 latents; both ranks gather queries, latents, keys,
// candidates and records.
TEST(StepTime, IndexersBoundWhatIsReadAndCostGathers) {
  ModelConfig config = Config();
  LatentShape& latent = config.attention.emplace<LatentShape>();
  latent.kv_lora_rank = 6;
  latent.rope_dim = 2;
  latent.q_lora_rank = 12;
  latent.v_dim = 16;
  latent.indexer = {.topk = 2000, .num_heads = 4, .head_dim = 8, .is_full = {true, false, true}};
  StepModel model = Model(config, 2, 1);
  model.chosen_bytes_per_token = 20;
  StepMachine machine;
  machine.rank_bytes_per_s = 1000;
  machine.gather_s = 1;
  EXPECT_DOUBLE_EQ(PredictStepTime(model, machine, 1, 3000).context_s, 3000 * 0.01 + 2000 * 0.02);
  EXPECT_DOUBLE_EQ(PredictStepTime(model, machine, 1, 1000).context_s, 1000 * 0.01 + 1000 * 0.02);
  // Four of each of 3 layers, the embedding's and the head's; latents and records of each layer.
  EXPECT_DOUBLE_EQ(PredictStepTime(model, machine, 1, 1000).gathers_s, 4 * 3 + 2 + 2 * 3);
  // Index queries and candidates of the two layers that choose.
  EXPECT_DOUBLE_EQ(PredictStepTime(model, machine, 1, 3000).gathers_s, 4 * 3 + 2 + 2 * 3 + 2 * 2);
  // Latents that are whole on each rank are not gathered.
  model.whole_latents = true;
  EXPECT_DOUBLE_EQ(PredictStepTime(model, machine, 1, 3000).gathers_s, 4 * 3 + 2 + 3 + 2 * 2);
  model.whole_latents = false;
  // Two ranks exchange each part once: every byte of a row crosses the link.
  machine.link_bytes_per_s = 1;
  machine.gather_s = 0;
  const double more = PredictStepTime(model, machine, 1, 3000).gathers_s -
                      PredictStepTime(model, machine, 1, 1000).gathers_s;
  const double queries = 2 * 4 * 4 * 8, candidates = 2 * 8 * 2000 * 2, records = 20 * 1000;
  EXPECT_DOUBLE_EQ(more, queries + candidates + records);
}

TEST(StepTime, IsWhatIsReadOverTheBandwidth) {
  const ModelConfig config = Config();
  const StepModel model = Model(config, 1, 1);
  StepMachine machine;
  machine.rank_bytes_per_s = 1000;
  machine.worker_bytes_per_s = 500;
  machine.exchange_s = 0.25;
  const StepTime time = PredictStepTime(model, machine, 1, 30);
  EXPECT_DOUBLE_EQ(time.weights_s, 6);
  EXPECT_DOUBLE_EQ(time.head_s, 0.5);
  EXPECT_DOUBLE_EQ(time.context_s, 0.3);
  EXPECT_DOUBLE_EQ(time.gathers_s, 0);
  // Two layers: 4 of 16 experts are 400 bytes, 0.8 s; the shared expert's 0.3 s run meanwhile.
  EXPECT_NEAR(time.experts_s, 1.6, 1e-12);
  EXPECT_DOUBLE_EQ(time.exchange_s, 0.5);
  EXPECT_NEAR(time.total_s(), 8.9, 1e-12);
}

TEST(StepTime, OnSharedCoresTheSharedExpertTakesTheWorkersTime) {
  const ModelConfig config = Config();
  StepMachine machine;
  machine.rank_bytes_per_s = machine.worker_bytes_per_s = 500;
  machine.shared_cores = true;
  // 200 bytes of each worker and 300 of the shared expert a layer.
  EXPECT_NEAR(PredictStepTime(Model(config, 1, 2), machine, 1, 0).experts_s, 2 * (0.4 + 0.6),
              1e-12);
  // With a smaller one beside, the more loaded worker of the two is what a layer waits for.
  StepModel model = Model(config, 1, 2);
  model.weights.back().shared_experts = 60;
  const double most = MostOfAWorker(4, 2) * 100 / 500;
  ASSERT_GT(most, 0.4 + 0.06);
  EXPECT_NEAR(PredictStepTime(model, machine, 1, 0).experts_s, 2 * most, 1e-12);
}

TEST(StepTime, MultiplyAddsBoundManyRows) {
  const ModelConfig config = Config();
  StepMachine machine;
  machine.rank_bytes_per_s = machine.worker_bytes_per_s = 1000;
  machine.rank_macs_per_s = 10000;  // 10 rows of 2 weights a byte take twice as long as reading
  const StepModel model = Model(config, 1, 1);
  // Reading 0.5 s and multiplying 0.05, 1 and 50 s: the one that is longer, and a little of the
  // other.
  EXPECT_NEAR(PredictStepTime(model, machine, 1, 0).head_s, 0.5, 0.01);
  EXPECT_NEAR(PredictStepTime(model, machine, 10, 0).head_s, std::cbrt(0.125 + 1), 1e-9);
  EXPECT_NEAR(PredictStepTime(model, machine, 500, 0).head_s, 50, 0.01);
}

TEST(StepTime, RanksPayForTheirGathers) {
  const ModelConfig config = Config();
  StepMachine machine;
  machine.rank_bytes_per_s = machine.worker_bytes_per_s = 1000;
  machine.gather_s = 0.01;
  // Four a layer, the embedding's and the logits'.
  EXPECT_NEAR(PredictStepTime(Model(config, 2, 1), machine, 1, 0).gathers_s, 14 * 0.01, 1e-12);
  // Of three, parts take two trips.
  EXPECT_NEAR(PredictStepTime(Model(config, 3, 1), machine, 1, 0).gathers_s, 28 * 0.01, 1e-12);
  machine.gather_s = 0;
  machine.link_bytes_per_s = 1;
  // Of two ranks every part crosses the link once. A layer's attention: 512 values of 260 bytes a
  // 128, 256 floats; dense: 512 and 256 likewise; experts: 16 floats, 128 values, 256 floats and
  // the routed sum's 256.
  const double attention = 4 * 260 + 1024, dense = 4 * 260 + 1024, moe = 64 + 260 + 1024 + 1024;
  EXPECT_NEAR(PredictStepTime(Model(config, 2, 1), machine, 1, 0).gathers_s,
              3 * attention + dense + 2 * moe + 1024 + 4096 / 2, 1e-9);
}

TEST(StepTime, TheMostLoadedWorkerIsWaitedFor) {
  EXPECT_DOUBLE_EQ(TouchedExperts(16, 4, 1), 4);
  EXPECT_DOUBLE_EQ(TouchedExperts(16, 4, 2), 16 * (1 - 0.5625));
  EXPECT_DOUBLE_EQ(MostOfAWorker(8, 1), 8);
  // Of 8 experts that fall to two workers by chance the larger part is 5.09 in the mean.
  EXPECT_NEAR(MostOfAWorker(8, 2), 5.09, 0.1);
  EXPECT_LE(MostOfAWorker(2, 64), 2);
}

}  // namespace
}  // namespace sheaf
