// All experts of a layer in one packed tensor: each expert is its part, whatever the names, the
// zero points and the shape tensor are.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>

#include "absl/strings/str_format.h"
#include "model/expert_slice.h"
#include "model/inspect/inspect.h"
#include "model/model_layout.h"
#include "nlohmann/json.hpp"
#include "tests/model/tiny_model.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using testing::CodedMatrix;
using ::testing::HasSubstr;
using testing::MatrixOf;
using testing::MatrixOptions;
using testing::TempDir;
using testing::TestSeed;
using testing::TestTensor;
using testing::TestTensors;
using testing::TinyModel;

constexpr int kExperts = 5;

enum class Zeros { kNone, kWords, kBytes };

struct FusedCase {
  std::string name;
  bool dotted = true;  // ".weight_packed", or "_packed"
  Zeros zeros = Zeros::kNone;
  int shape_entries = 3;  // 0 = no shape tensor
  bool permuted = false;
};

// The tensors of each expert behind one another, under `module`.
TestTensors Fuse(const std::vector<CodedMatrix>& experts, const std::string& module,
                 const FusedCase& form) {
  TestTensors all;
  for (const CodedMatrix& matrix : experts) {
    TestTensors one =
        testing::PackPackQuantized(matrix, "m", form.zeros != Zeros::kNone, form.permuted);
    if (form.zeros == Zeros::kBytes) {
      std::vector<int8_t> zeros;
      for (const uint8_t zero : matrix.zeros) zeros.push_back(static_cast<int8_t>(zero - 8));
      one["m.weight_zero_point"] = {"I8", {matrix.n, matrix.groups}, testing::BytesOf(zeros)};
    }
    one.erase("m.weight_shape");
    for (const auto& [name, tensor] : one) {
      const std::string suffix = name.substr(std::string("m.weight_").size());
      TestTensor& out = all[module + (form.dotted ? ".weight_" : "_") + suffix];
      out.dtype = tensor.dtype;
      out.shape = tensor.shape;
      out.shape.insert(out.shape.begin(), static_cast<int64_t>(experts.size()));
      out.bytes.insert(out.bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
    }
  }
  std::vector<int64_t> shape = {static_cast<int64_t>(experts.size()), experts[0].n, experts[0].k};
  if (form.shape_entries == 2) shape.erase(shape.begin());
  if (form.shape_entries != 0) {
    all[module + (form.dotted ? ".weight_shape" : "_shape")] = {
        "I64", {form.shape_entries}, testing::BytesOf(shape)};
  }
  return all;
}

// The tiny model with its experts so; `wanted` gets every expert's matrices.
TinyModel Model(const FusedCase& form, std::mt19937_64& random,
                std::map<std::string, std::vector<float>>& wanted) {
  TinyModel model = testing::MakeTinyModel(testing::TinyStorage::kPackQuantized, kExperts, random);
  auto config = nlohmann::json::parse(model.config_json);
  config["quantization_config"].erase("sym");
  model.config_json = config.dump();
  model.config = *ParseModelConfig(model.config_json, "", "config.json");
  std::erase_if(model.tensors, [](const auto& entry) {
    return entry.first.find(".mlp.experts.") != std::string::npos;
  });
  const int width = model.config.moe_intermediate_size, hidden = model.config.hidden_size;
  MatrixOptions options;
  options.scale_dtype = "BF16";
  options.group_size = 32;
  options.symmetric = form.zeros == Zeros::kNone;
  options.permuted_groups = form.permuted;
  for (int layer = 1; layer < 3; ++layer) {
    std::vector<CodedMatrix> gate_up, down;
    for (int expert = 0; expert < kExperts; ++expert) {
      gate_up.push_back(testing::RandomMatrix(2 * width, hidden, options, random));
      down.push_back(testing::RandomMatrix(hidden, width, options, random));
      const std::vector<float> both = gate_up.back().Dequantized();
      const auto middle = both.begin() + ptrdiff_t{width} * hidden;
      const std::string prefix = ExpertPrefix(layer, expert);
      wanted[prefix + ".gate"] = {both.begin(), middle};
      wanted[prefix + ".up"] = {middle, both.end()};
      wanted[prefix + ".down"] = down.back().Dequantized();
    }
    const std::string prefix = LayerPrefix(layer) + ".mlp.experts.";
    model.tensors.merge(Fuse(gate_up, prefix + "gate_up_proj", form));
    model.tensors.merge(Fuse(down, prefix + "down_proj", form));
  }
  return model;
}

class FusedExperts : public ::testing::TestWithParam<FusedCase> {};

TEST_P(FusedExperts, EachIsItsPart) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d", seed));
  std::mt19937_64 random(seed);
  std::map<std::string, std::vector<float>> wanted;
  const TinyModel model = Model(GetParam(), random, wanted);
  const TempDir dir;
  model.Write(dir.path(), 2);
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ThreadPool pool(2);
  // Not the first one: what all share is checked by every part.
  const LayerExpert some[] = {{LayerId(1), ExpertId(3)}, {LayerId(2), ExpertId(4)},
                              {LayerId(2), ExpertId(0)}};
  const auto slice = ExpertSlice::Load(**checkpoint, model.config, some, pool, nullptr);
  ASSERT_TRUE(slice.ok()) << slice.status();
  for (const LayerExpert& pair : some) {
    const kernels::ExpertWeights* const expert = (*slice)->Find(pair.layer, pair.expert);
    ASSERT_NE(expert, nullptr);
    const std::string prefix = ExpertPrefix(pair.layer.value(), pair.expert.value());
    EXPECT_EQ(MatrixOf(expert->gate), wanted[prefix + ".gate"]);
    EXPECT_EQ(MatrixOf(expert->up), wanted[prefix + ".up"]);
    EXPECT_EQ(MatrixOf(expert->down), wanted[prefix + ".down"]);
  }
}

TEST_P(FusedExperts, AreCountedOnceByInspect) {
  std::mt19937_64 random(TestSeed());
  std::map<std::string, std::vector<float>> wanted;
  const TinyModel model = Model(GetParam(), random, wanted);
  const TempDir dir;
  model.Write(dir.path());
  const InspectReport report = InspectCheckpoint(dir.path(), 2);
  EXPECT_EQ(report.refusal, "");
  uint64_t bytes = 0, tensors = 0;
  for (const TensorGroup& group : report.groups) {
    bytes += group.bytes;
    tensors += group.tensors;
    if (group.part == ModelPart::kRoutedExperts) {
      EXPECT_EQ(group.modules, 2u * kExperts * 3);
    }
  }
  EXPECT_EQ(bytes, report.bytes);
  EXPECT_EQ(tensors, report.tensors);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, FusedExperts,
    ::testing::Values(FusedCase{"Dotted"}, FusedCase{"Underscores", false},
                      FusedCase{"PackedZeroPoints", true, Zeros::kWords, 2},
                      FusedCase{"SignedByteZeroPoints", false, Zeros::kBytes, 0},
                      FusedCase{"GIdx", true, Zeros::kWords, 3, true}),
    [](const auto& instance) { return instance.param.name; });

absl::Status Damaged(const std::function<void(TestTensors&)>& damage) {
  std::mt19937_64 random(TestSeed());
  std::map<std::string, std::vector<float>> wanted;
  TinyModel model = Model({"", true, Zeros::kWords}, random, wanted);
  damage(model.tensors);
  const TempDir dir;
  model.Write(dir.path());
  const auto checkpoint = Checkpoint::Open(dir.path());
  if (!checkpoint.ok()) return checkpoint.status();
  ThreadPool pool(1);
  const LayerExpert one[] = {{LayerId(1), ExpertId(2)}};
  return ExpertSlice::Load(**checkpoint, model.config, one, pool, nullptr).status();
}

TEST(FusedExpertsThatAreDamaged, AreRefusedByName) {
  const std::string stem = "model.layers.1.mlp.experts.gate_up_proj.weight_";
  EXPECT_THAT(Damaged([&](TestTensors& tensors) { tensors.erase(stem + "scale"); }).message(),
              HasSubstr("missing tensor " + stem + "scale"));
  EXPECT_THAT(Damaged([&](TestTensors& tensors) {
                TestTensor& shape = tensors.at(stem + "shape");
                shape.bytes[0] = 6;
              }).message(),
              HasSubstr(stem + "shape: wanted the values [5, 256, 128], got [6, 256, 128]"));
  EXPECT_THAT(Damaged([&](TestTensors& tensors) {
                TestTensor& words = tensors.at(stem + "packed");
                words.shape = {1, 5 * 256, 16};
              }).message(),
              HasSubstr(stem + "packed"));
  EXPECT_THAT(Damaged([&](TestTensors& tensors) {
                tensors["model.layers.1.mlp.experts.down_proj.bias"] = {"BF16", {1}, {0, 0}};
              }).message(),
              HasSubstr("wanted experts without a bias"));
}

}  // namespace
}  // namespace sheaf
