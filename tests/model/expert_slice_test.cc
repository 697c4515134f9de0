// A slice holds exactly the experts asked for, in any storage, and refuses checkpoints whose
// experts contradict the config.

#include "model/expert_slice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_format.h"
#include "model/model_layout.h"
#include "tests/model/tiny_model.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MakeTinyModel;
using testing::TempDir;
using testing::TestSeed;
using testing::TinyModel;
using testing::TinyStorage;

class ExpertSlices : public ::testing::TestWithParam<TinyStorage> {
 protected:
  absl::StatusOr<std::unique_ptr<ExpertSlice>> Load(const TinyModel& model,
                                                    std::vector<LayerExpert> experts,
                                                    const LoadProgress& progress = nullptr) {
    model.Write(dir_.path(), 3);
    auto checkpoint = Checkpoint::Open(dir_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    return ExpertSlice::Load(**checkpoint, model.config, experts, pool_, progress);
  }

  const uint64_t seed_ = TestSeed();
  std::mt19937_64 random_{seed_};
  TempDir dir_;
  ThreadPool pool_{2};
};

TEST_P(ExpertSlices, HoldWhatWasAskedForAndNothingElse) {
  SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d", seed_));
  const TinyModel model = MakeTinyModel(GetParam(), 5, random_);
  std::vector<LayerExpert> wanted;
  for (const LayerExpert& pair : AllExperts(model.config)) {
    if (random_() % 2 == 0) wanted.push_back(pair);
  }
  wanted.push_back({LayerId(2), ExpertId(4)});
  wanted.push_back({LayerId(2), ExpertId(4)});  // twice is once
  const auto slice = Load(model, wanted);
  ASSERT_TRUE(slice.ok()) << slice.status();
  size_t held = 0;
  for (const LayerExpert& pair : AllExperts(model.config)) {
    const kernels::ExpertWeights* const expert = (*slice)->Find(pair.layer, pair.expert);
    const bool asked = std::find(wanted.begin(), wanted.end(), pair) != wanted.end();
    ASSERT_EQ(expert != nullptr, asked);
    if (!asked) continue;
    ++held;
    const std::string name = ExpertPrefix(pair.layer.value(), pair.expert.value());
    EXPECT_EQ(testing::MatrixOf(expert->gate), model.matrices.at(name + ".gate_proj"));
    EXPECT_EQ(testing::MatrixOf(expert->up), model.matrices.at(name + ".up_proj"));
    EXPECT_EQ(testing::MatrixOf(expert->down), model.matrices.at(name + ".down_proj"));
  }
  EXPECT_EQ((*slice)->num_experts(), held);
  EXPECT_EQ((*slice)->Find(LayerId(0), ExpertId(0)), nullptr) << "a dense layer";
  EXPECT_EQ((*slice)->Find(LayerId(-1), ExpertId(0)), nullptr);
  EXPECT_EQ((*slice)->Find(LayerId(1), ExpertId(5)), nullptr);
  EXPECT_EQ((*slice)->Find(LayerId(3), ExpertId(0)), nullptr);
}

TEST_P(ExpertSlices, ProgressRisesToTheSlicesBytesAndMemoryStaysWithinThem) {
  const TinyModel model = MakeTinyModel(GetParam(), 6, random_);
  size_t last = 0, total = 0;
  const auto slice = Load(model, AllExperts(model.config), [&](size_t done, size_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
  });
  ASSERT_TRUE(slice.ok()) << slice.status();
  EXPECT_EQ(last, total);
  EXPECT_LE((*slice)->resident_bytes(), total + total / 50);
}

INSTANTIATE_TEST_SUITE_P(Storages, ExpertSlices,
                         ::testing::Values(TinyStorage::kGptq, TinyStorage::kPackQuantized,
                                           TinyStorage::kBf16, TinyStorage::kFusedF32));

using BadExperts = ExpertSlices;

TEST_P(BadExperts, AMissingExpertIsNamed) {
  TinyModel model = MakeTinyModel(GetParam(), 4, random_);
  for (const char* suffix : {".qweight", ".weight_packed", ".weight"}) {
    model.tensors.erase("model.layers.2.mlp.experts.3.up_proj" + std::string(suffix));
  }
  const auto slice = Load(model, AllExperts(model.config));
  EXPECT_THAT(std::string(slice.status().message()),
              HasSubstr("model.layers.2.mlp.experts.3.up_proj"));
  EXPECT_TRUE(Load(model, {{LayerId(2), ExpertId(2)}}).ok()) << "another process's loss";
}

TEST_P(BadExperts, MoreExpertsThanTheConfigCountsAreRefused) {
  TinyModel model = MakeTinyModel(GetParam(), 4, random_);
  model.config.num_experts = 3;
  const auto slice = Load(model, {{LayerId(1), ExpertId(0)}});
  EXPECT_EQ(slice.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(slice.status().message()),
              AllOf(HasSubstr("shard-"), HasSubstr("model.layers.1.mlp.experts.3."),
                    HasSubstr("wanted experts 0..2"), HasSubstr("got expert 3")));
}

TEST_P(BadExperts, FewerExpertsThanTheConfigCountsAreRefused) {
  TinyModel model = MakeTinyModel(GetParam(), 4, random_);
  model.config.num_experts = 6;
  const auto slice = Load(model, {{LayerId(1), ExpertId(0)}});
  EXPECT_THAT(std::string(slice.status().message()),
              AllOf(HasSubstr("model.layers.1.mlp.gate.weight"), HasSubstr("wanted shape [6, 128]"),
                    HasSubstr("got [4, 128]")));
}

TEST_P(BadExperts, PairsOutsideTheModelAreRefused) {
  const TinyModel model = MakeTinyModel(GetParam(), 4, random_);
  for (const LayerExpert& pair :
       {LayerExpert{LayerId(0), ExpertId(0)}, LayerExpert{LayerId(3), ExpertId(0)},
        LayerExpert{LayerId(1), ExpertId(4)}, LayerExpert{LayerId(1), ExpertId(-1)}}) {
    EXPECT_EQ(Load(model, {pair}).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Storages, BadExperts,
                         ::testing::Values(TinyStorage::kGptq, TinyStorage::kPackQuantized));

TEST(FusedExperts, ACountThatContradictsTheConfigIsRefused) {
  std::mt19937_64 random(TestSeed());
  TinyModel model = MakeTinyModel(TinyStorage::kFusedF32, 4, random);
  for (int layer : {1, 2}) {
    model.tensors[LayerPrefix(layer) + ".mlp.gate.weight"] =
        testing::PlainTensor("BF16", {5, 128}, random);
  }
  model.config.num_experts = 5;
  const TempDir dir;
  model.Write(dir.path());
  ThreadPool pool(1);
  const auto slice = ExpertSlice::Load(**Checkpoint::Open(dir.path()), model.config,
                                       AllExperts(model.config), pool, nullptr);
  EXPECT_THAT(std::string(slice.status().message()),
              AllOf(HasSubstr("mlp.experts.gate_up_proj"), HasSubstr("wanted shape [5, 256, 128]"),
                    HasSubstr("got [4, 256, 128]")));
}

}  // namespace
}  // namespace sheaf
