// After loading, no file of the checkpoint is needed: whatever happens to them, the weights stay.
// While loading, a file that changes is an error that names it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <tuple>

#include "model/decoder_weights.h"
#include "model/model_layout.h"
#include "tests/model/tiny_model.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MakeTinyModel;
using testing::MatrixOf;
using testing::TempDir;
using testing::TestSeed;
using testing::TinyModel;
using testing::TinyStorage;

struct Damage {
  std::string name;
  std::function<void(const std::string& path)> damage;
};

void Overwrite(const std::string& path, char byte) {
  const std::string content(fs::file_size(path), byte);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file << content;
}

std::vector<Damage> Damages() {
  return {{"Truncated", [](const std::string& path) { fs::resize_file(path, 0); }},
          {"Shortened",
           [](const std::string& path) { fs::resize_file(path, fs::file_size(path) - 1); }},
          {"Grown",
           [](const std::string& path) { fs::resize_file(path, fs::file_size(path) + 1); }},
          {"Overwritten",
           [](const std::string& path) {
             Overwrite(path, '\xff');
             // The clock of a file system may be coarser than this test is long.
             fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(1));
           }},
          {"Replaced",
           [](const std::string& path) {
             fs::copy_file(path, path + ".new");
             Overwrite(path + ".new", '\x7f');
             fs::rename(path + ".new", path);
           }},
          {"Deleted", [](const std::string& path) { fs::remove(path); }}};
}

std::vector<std::string> Shards(const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path().string());
  }
  return paths;
}

class OwnMemory : public ::testing::TestWithParam<std::tuple<TinyStorage, Damage>> {
 protected:
  void SetUp() override {
    SCOPED_TRACE(seed_);
    model_ = MakeTinyModel(std::get<0>(GetParam()), 4, random_, seed_ % 2 == 0);
    model_.Write(dir_.path(), 3);
    auto opened = Checkpoint::Open(dir_.path());
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = *std::move(opened);
  }

  void DamageShards() {
    for (const std::string& path : Shards(dir_.path())) std::get<1>(GetParam()).damage(path);
  }

  const uint64_t seed_ = TestSeed();
  std::mt19937_64 random_{seed_};
  TempDir dir_;
  ThreadPool pool_{2};
  TinyModel model_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

// Every value that a decoder reads.
std::vector<std::vector<float>> Values(const DecoderWeights& weights) {
  const auto dense = [](const kernels::DenseMatrix& matrix) {
    kernels::Linear linear;
    linear.storage = kernels::Linear::Storage::kDense;
    linear.dense = matrix;
    return matrix.n == 0 ? std::vector<float>() : MatrixOf(linear);
  };
  std::vector<std::vector<float>> values = {dense(weights.embedding), weights.final_norm,
                                            MatrixOf(weights.lm_head.view())};
  for (const LayerWeights& layer : weights.layers) {
    values.push_back(layer.input_norm);
    values.push_back(layer.post_attention_norm);
    values.push_back(layer.correction_bias);
    values.push_back(dense(layer.gate));
    for (const LoadedLinear* linear :
         {&layer.feed_forward.gate, &layer.feed_forward.up, &layer.feed_forward.down}) {
      values.push_back(MatrixOf(linear->view()));
    }
    const auto& attention = std::get<GroupedQueryWeights>(layer.attention);
    for (const LoadedLinear* linear :
         {&attention.q, &attention.k, &attention.v, &layer.attention_out})
      values.push_back(MatrixOf(linear->view()));
    values.push_back(attention.q_norm);
    values.push_back(attention.k_norm);
  }
  return values;
}

TEST_P(OwnMemory, TheRoutersWeightsStayWhateverBecomesOfTheFiles) {
  const auto weights =
      DecoderWeights::Load(*checkpoint_, model_.config, WholeModel(model_.config), pool_, nullptr);
  ASSERT_TRUE(weights.ok()) << weights.status();
  checkpoint_ = nullptr;
  const auto before = Values(**weights);
  DamageShards();
  EXPECT_EQ(Values(**weights), before);
  EXPECT_EQ(MatrixOf((*weights)->layers[1].feed_forward.up.view()),
            model_.matrices.at("model.layers.1.mlp.shared_experts.up_proj"));
}

TEST_P(OwnMemory, ExpertsStayWhateverBecomesOfTheFiles) {
  const auto slice = ExpertSlice::Load(*checkpoint_, model_.config, AllExperts(model_.config),
                                       pool_, nullptr);
  ASSERT_TRUE(slice.ok()) << slice.status();
  checkpoint_ = nullptr;
  DamageShards();
  for (const LayerExpert& pair : AllExperts(model_.config)) {
    const kernels::ExpertWeights* const expert = (*slice)->Find(pair.layer, pair.expert);
    const std::string name = ExpertPrefix(pair.layer.value(), pair.expert.value());
    EXPECT_EQ(MatrixOf(expert->gate), model_.matrices.at(name + ".gate_proj"));
    EXPECT_EQ(MatrixOf(expert->up), model_.matrices.at(name + ".up_proj"));
    EXPECT_EQ(MatrixOf(expert->down), model_.matrices.at(name + ".down_proj"));
  }
}

TEST_P(OwnMemory, AFileThatChangesWhileItIsLoadedIsNamed) {
  const std::string victim = Shards(dir_.path())[seed_ % 3];
  bool damaged = false;
  const LoadProgress once = [&](size_t, size_t) {  // calls are serialised
    if (!damaged) std::get<1>(GetParam()).damage(victim);
    damaged = true;
  };
  const auto expect = [&](const absl::Status& status) {
    EXPECT_TRUE(damaged);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(victim), HasSubstr("changed while it was being loaded")));
  };
  if (seed_ / 3 % 2 == 0) {
    expect(DecoderWeights::Load(*checkpoint_, model_.config, WholeModel(model_.config), pool_, once)
               .status());
  } else {
    expect(ExpertSlice::Load(*checkpoint_, model_.config, AllExperts(model_.config), pool_, once)
               .status());
  }
}

TEST_P(OwnMemory, AFileThatChangedBetweenOpeningAndLoadingIsNamed) {
  const std::string victim = Shards(dir_.path())[seed_ % 3];
  std::get<1>(GetParam()).damage(victim);
  for (const absl::Status& status :
       {DecoderWeights::Load(*checkpoint_, model_.config, WholeModel(model_.config), pool_, nullptr)
            .status(),
        ExpertSlice::Load(*checkpoint_, model_.config, AllExperts(model_.config), pool_, nullptr)
            .status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(victim));
  }
}

std::string NameOf(const ::testing::TestParamInfo<OwnMemory::ParamType>& test) {
  constexpr const char* kStorages[] = {"Gptq", "PackQuantized", "Bf16", "FusedF32"};
  return std::string(kStorages[static_cast<int>(std::get<0>(test.param))]) +
         std::get<1>(test.param).name;
}

INSTANTIATE_TEST_SUITE_P(
    StoragesAndDamages, OwnMemory,
    ::testing::Combine(::testing::Values(TinyStorage::kGptq, TinyStorage::kPackQuantized,
                                         TinyStorage::kBf16, TinyStorage::kFusedF32),
                       ::testing::ValuesIn(Damages())),
    NameOf);

}  // namespace
}  // namespace sheaf
