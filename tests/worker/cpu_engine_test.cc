// Single experts of a real checkpoint: the bits of a slice, and a file that changes is found.

#include <gtest/gtest.h>

#include "exchange/expert_layer.h"
#include "model/expert_slice.h"
#include "tests/exchange/random_experts.h"
#include "tests/model/tiny_model.h"
#include "worker/engine/cpu_engine.h"
#include "worker/holdings/holding_loader.h"

namespace sheaf {
namespace {

using testing::TestSeed;

LayerExpert Pair(int layer, int expert) { return {LayerId(layer), ExpertId(expert)}; }

class CpuEngineTest : public ::testing::TestWithParam<testing::TinyStorage> {};

TEST_P(CpuEngineTest, SingleExpertsHaveTheBitsOfASlice) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const testing::TinyModel model = testing::MakeTinyModel(GetParam(), 4, random);
  const testing::TempDir dir;
  model.Write(dir.path(), 3);
  std::shared_ptr<const Checkpoint> checkpoint = *Checkpoint::Open(dir.path());
  ThreadPool pool(1);
  const auto slice =
      ExpertSlice::Load(*checkpoint, model.config, AllExperts(model.config), pool, nullptr);
  ASSERT_TRUE(slice.ok()) << slice.status();
  auto reader = ExpertReader::Create(checkpoint, model.config);
  ASSERT_TRUE(reader.ok()) << reader.status();
  CpuEngine engine(*std::move(reader), 1, 0);
  const std::unique_ptr<ExpertCompute> compute = engine.NewCompute(pool);
  RandomBatch batch(random, LayerId(1), 5, model.config.hidden_size, 4, 2);
  const kernels::QuantizedRows x = batch.At(1).x;
  for (const LayerExpert& pair : AllExperts(model.config)) {
    const auto expert = engine.Load(pair, 0);
    ASSERT_TRUE(expert.ok()) << expert.status();
    EXPECT_LE((*expert)->resident_bytes(), engine.expert_bytes());
    const std::vector<int32_t> rows = {0, 1, 2, 3, 4};
    std::vector<float> want(5 * static_cast<size_t>(x.k)), got(want.size());
    kernels::ref::RunExpert(x, {(*slice)->Find(pair.layer, pair.expert), rows, want.data()});
    const HeldExpertJob job{expert->get(), rows};
    ASSERT_TRUE(compute->Submit({pair.layer, x, {&job, 1}}).ok());
    ASSERT_TRUE(compute->Complete(got.data()).ok());
    EXPECT_EQ(want, got);
  }
  EXPECT_EQ(engine.Load(Pair(0, 0), 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine.Load(Pair(1, 4), 0).status().code(), absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Storages, CpuEngineTest,
                         ::testing::Values(testing::TinyStorage::kGptq,
                                         testing::TinyStorage::kPackQuantized,
                                         testing::TinyStorage::kBf16,
                                         testing::TinyStorage::kFusedF32));

TEST(CpuEngineFile, AFileThatChangedIsDataLoss) {
  std::mt19937_64 random(TestSeed());
  const testing::TinyModel model = testing::MakeTinyModel(testing::TinyStorage::kGptq, 4, random);
  const testing::TempDir dir;
  model.Write(dir.path());
  auto reader = ExpertReader::Create(*Checkpoint::Open(dir.path()), model.config);
  ASSERT_TRUE(reader.ok()) << reader.status();
  CpuEngine engine(*std::move(reader), 1, 0);
  ASSERT_TRUE(engine.Load(Pair(1, 0), 0).ok());
  model.Write(dir.path());
  const absl::Status status = engine.Load(Pair(1, 0), 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_TRUE(MayBeTransient(status));
}

}  // namespace
}  // namespace sheaf
