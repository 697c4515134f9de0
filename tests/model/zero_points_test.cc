// What stored zero points mean: decided by their values, refused where the config contradicts them.

#include "model/quantization/zero_points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_format.h"
#include "model/inspect/inspect.h"
#include "model/linear_loader.h"
#include "model/quantization/quantization_hints.h"
#include "model/quantization/zero_point_survey.h"
#include "tests/model/checkpoint_writer.h"
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
using testing::TestTensors;

constexpr int kN = 40, kK = 256;

// Zero points all `value`, or varied where it is negative.
CodedMatrix Matrix(int value, std::mt19937_64& random) {
  MatrixOptions options;
  options.symmetric = false;
  CodedMatrix matrix = testing::RandomMatrix(kN, kK, options, random);
  if (value >= 0) std::fill(matrix.zeros.begin(), matrix.zeros.end(), static_cast<uint8_t>(value));
  matrix.zeros.back() = value < 0 ? 3 : matrix.zeros.back();
  return matrix;
}

QuantizationHints Hints(const std::string& json) {
  auto hints = ReadQuantizationHints(nlohmann::ordered_json::parse(json), "config.json");
  EXPECT_TRUE(hints.ok()) << hints.status();
  return *std::move(hints);
}

absl::StatusOr<std::vector<float>> Load(const TestTensors& tensors, const QuantizationHints& hints,
                                        const std::string& module) {
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  if (!checkpoint.ok()) return checkpoint.status();
  const auto linear = LoadLinear(**checkpoint, hints, module, kN, kK);
  if (!linear.ok()) return linear.status();
  return MatrixOf(linear->view());
}

// As the matrix is with all of its zero points `zero`.
std::vector<float> With(CodedMatrix matrix, int zero) {
  std::fill(matrix.zeros.begin(), matrix.zeros.end(), static_cast<uint8_t>(zero));
  return matrix.Dequantized();
}

struct TableCase {
  int stored;        // everywhere
  const char* hints;
  int zero;          // what it means; -1 = refused
};

TEST(GptqZeroPoints, UniformOnesAreReadByTheirValue) {
  const TableCase cases[] = {
      {7, R"({})", 8},
      {8, R"({})", 8},
      {7, R"({"quant_method":"gptq","sym":true})", 8},
      {8, R"({"quant_method":"gptq","sym":true,"checkpoint_format":"gptq"})", 8},
      {7, R"({"quant_method":"gptq","sym":true,"checkpoint_format":"gptq_v2"})", 8},
      {7, R"({"quant_method":"gptq","sym":false})", 8},
      {8, R"({"quant_method":"gptq","sym":false})", 8},
      {8, R"({"quant_method":"gptq","sym":false,"checkpoint_format":"gptq"})", 9},
      {7, R"({"quant_method":"gptq","sym":false,"checkpoint_format":"gptq_v2"})", 7},
      {8, R"({"quant_method":"gptq","sym":false,"checkpoint_format":"gptq_v2"})", 8},
      {8, R"({"quant_method":"auto-round","sym":false,"packing_format":"auto_round:auto_gptq"})",
       9},
      {8, R"({"quant_method":"gptq","checkpoint_format":"gptq"})", 8},
      {5, R"({})", 6},
      {5, R"({"quant_method":"gptq","checkpoint_format":"gptq_v2"})", 5},
      {15, R"({"quant_method":"gptq","sym":false})", 0},
      {5, R"({"quant_method":"gptq","sym":true})", -1},
      {0, R"({"quant_method":"gptq","sym":true})", 8},
      {0, R"({"quant_method":"gptq","sym":false})", 1},
  };
  std::mt19937_64 random(TestSeed());
  for (const TableCase& test : cases) {
    SCOPED_TRACE(absl::StrFormat("%d everywhere, %s", test.stored, test.hints));
    const CodedMatrix matrix = Matrix(test.stored, random);
    const auto got = Load(testing::PackGptq(matrix, "m", 0, false), Hints(test.hints), "m");
    ASSERT_EQ(got.ok(), test.zero >= 0) << got.status();
    if (!got.ok()) continue;
    EXPECT_EQ(*got, With(matrix, test.zero));
  }
}

TEST(GptqZeroPoints, VariedOnesUnderAConfigThatSaysNothingAreAsymmetric) {
  std::mt19937_64 random(TestSeed());
  const CodedMatrix matrix = Matrix(-1, random);
  const auto v1 = Load(testing::PackGptq(matrix, "m", 1, true), {}, "m");
  ASSERT_TRUE(v1.ok()) << v1.status();
  EXPECT_EQ(*v1, matrix.Dequantized());
  const auto v2 = Load(testing::PackGptq(matrix, "m", 0, true),
                       Hints(R"({"quant_method":"gptq","checkpoint_format":"gptq_v2"})"), "m");
  ASSERT_TRUE(v2.ok()) << v2.status();
  EXPECT_EQ(*v2, matrix.Dequantized());
}

TEST(GptqZeroPoints, VariedOnesUnderAConfigThatSaysSymmetricAreRefusedByName) {
  std::mt19937_64 random(TestSeed());
  const auto got = Load(testing::PackGptq(Matrix(-1, random), "m", 1, true),
                        Hints(R"({"quant_method":"gptq","bits":"4","sym":"true"})"), "m");
  EXPECT_EQ(got.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(got.status().message(), HasSubstr("tensor m.qzeros: wanted 7 or 8 everywhere, as "
                                                "quantization_config says sym true, got "));
  EXPECT_THAT(got.status().message(), HasSubstr("at output row"));
}

TEST(GptqZeroPoints, NibblesBehindTheLastRowDoNotCount) {
  std::mt19937_64 random(TestSeed());
  MatrixOptions options;
  const CodedMatrix matrix = testing::RandomMatrix(36, kK, options, random);
  TestTensors tensors = testing::PackGptq(matrix, "m", 1, false);
  for (int group = 0; group < 2; ++group) tensors["m.qzeros"].bytes[(group * 5 + 4) * 4 + 3] = 0x21;
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  const auto linear =
      LoadLinear(**checkpoint, Hints(R"({"quant_method":"gptq","sym":true})"), "m", 36, kK);
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(MatrixOf(linear->view()), matrix.Dequantized());
}

struct OverrideCase {
  std::string name;
  const char* hints;
};

class ModuleOverridesOfConfigs : public ::testing::TestWithParam<OverrideCase> {};

TEST_P(ModuleOverridesOfConfigs, SayWhichModulesAreAsymmetric) {
  std::mt19937_64 random(TestSeed());
  const CodedMatrix varied = Matrix(-1, random);
  const QuantizationHints hints = Hints(GetParam().hints);
  const std::string asymmetric = "model.layers.1.self_attn.k_proj";
  const std::string symmetric = "model.layers.1.self_attn.q_proj";
  const auto right = Load(testing::PackGptq(varied, asymmetric, 1, true), hints, asymmetric);
  ASSERT_TRUE(right.ok()) << right.status();
  EXPECT_EQ(*right, varied.Dequantized());
  EXPECT_FALSE(Load(testing::PackGptq(varied, symmetric, 1, true), hints, symmetric).ok());
}

INSTANTIATE_TEST_SUITE_P(
    Tools, ModuleOverridesOfConfigs,
    ::testing::Values(
        OverrideCase{"DynamicPlus",
                     R"({"quant_method":"gptq","sym":true,"dynamic":{"-:.*mlp.*":{},
                         "+:.*k_proj":{"sym":false},"+:.*self_attn.*":{"sym":true}}})"},
        // Sorted by name, the second would come first.
        OverrideCase{"DynamicFirstMatchHolds",
                     R"({"quant_method":"gptq","sym":true,"dynamic":{
                         "model\\..*k_proj":{"sym":false},"+:.*self_attn.*":{"sym":true}}})"},
        OverrideCase{"ExtraConfigName",
                     R"({"quant_method":"auto-round","packing_format":"auto_round:auto_gptq",
                         "sym":true,"extra_config":{".*proj":{"sym":true},
                         "model.layers.1.self_attn.k_proj":{"bits":4,"sym":false}}})"},
        OverrideCase{"ExtraConfigSuffix",
                     R"({"quant_method":"auto-round","packing_format":"auto_round:auto_gptq",
                         "sym":true,"extra_config":{"self_attn.k_proj":{"sym":false}}})"},
        OverrideCase{"ExtraConfigExpression",
                     R"({"quant_method":"auto-round","packing_format":"auto_round:auto_gptq",
                         "sym":true,
                         "extra_config":{"layers\\.\\d+\\.self_attn\\.k_":{"sym":false}}})"}),
    [](const auto& instance) { return instance.param.name; });

TEST(PackQuantizedZeroPoints, FollowTheGroupThatTheModuleBelongsTo) {
  std::mt19937_64 random(TestSeed());
  const CodedMatrix varied = Matrix(-1, random);
  const QuantizationHints hints = Hints(R"({"quant_method":"compressed-tensors","config_groups":{
      "group_0":{"targets":["Linear"],"weights":{"num_bits":4,"symmetric":true}},
      "group_1":{"targets":["re:.*k_proj","lm_head"],
                 "weights":{"num_bits":4,"symmetric":false}}}})");
  const std::string asymmetric = "model.layers.1.self_attn.k_proj";
  const std::string symmetric = "model.layers.1.self_attn.q_proj";
  const auto right =
      Load(testing::PackPackQuantized(varied, asymmetric, true, false), hints, asymmetric);
  ASSERT_TRUE(right.ok()) << right.status();
  EXPECT_EQ(*right, varied.Dequantized());
  const auto wrong =
      Load(testing::PackPackQuantized(varied, symmetric, true, false), hints, symmetric);
  EXPECT_THAT(wrong.status().message(),
              HasSubstr("q_proj.weight_zero_point: wanted 8 everywhere, as "
                        "quantization_config.config_groups.group_0 says symmetric true"));
  const auto absent =
      Load(testing::PackPackQuantized(varied, asymmetric, false, false), hints, asymmetric);
  EXPECT_THAT(absent.status().message(), HasSubstr("missing tensor")) << absent.status();
}

TEST(PackQuantizedZeroPoints, MayBeSignedBytes) {
  std::mt19937_64 random(TestSeed());
  for (const bool symmetric : {false, true}) {
    const CodedMatrix matrix = Matrix(symmetric ? 8 : -1, random);
    TestTensors tensors = testing::PackPackQuantized(matrix, "m", false, false);
    std::vector<int8_t> zeros;
    for (const uint8_t zero : matrix.zeros) zeros.push_back(static_cast<int8_t>(zero - 8));
    tensors["m.weight_zero_point"] = {"I8", {kN, matrix.groups}, testing::BytesOf(zeros)};
    const auto got = Load(tensors, {}, "m");
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*got, matrix.Dequantized());
    zeros[3] = 9;
    tensors["m.weight_zero_point"].bytes = testing::BytesOf(zeros);
    EXPECT_THAT(Load(tensors, {}, "m").status().message(),
                HasSubstr("zero_point: wanted zero points in -8..7, got 9 at output row 1"));
  }
}

TEST(AwqZeroPoints, ThatVaryUnderAConfigThatSaysNoneAreRefused) {
  std::mt19937_64 random(TestSeed());
  const CodedMatrix matrix = Matrix(-1, random);
  const TestTensors tensors = testing::PackAwq(matrix, "m");
  const auto silent = Load(tensors, Hints(R"({"quant_method":"awq"})"), "m");
  ASSERT_TRUE(silent.ok()) << silent.status();
  EXPECT_EQ(*silent, matrix.Dequantized());
  EXPECT_THAT(
      Load(tensors, Hints(R"({"quant_method":"awq","zero_point":false})"), "m").status().message(),
      HasSubstr("m.qzeros: wanted 8 everywhere, as quantization_config says zero_point false"));
}

// The tiny model's attention and experts, asymmetric v1 GPTQ under "sym": true.
testing::TinyModel Contradicting(std::mt19937_64& random) {
  testing::TinyModel model = testing::MakeTinyModel(testing::TinyStorage::kGptq, 4, random);
  for (auto& [name, tensor] : model.tensors) {
    if (name.find(".experts.2.") == std::string::npos || name.find("qzeros") == std::string::npos)
      continue;
    for (uint8_t& byte : tensor.bytes) byte = static_cast<uint8_t>(random());
    tensor.bytes[0] = 0x12;
  }
  return model;
}

TEST(ZeroPointSurvey, InspectRefusesWhatLoadingWould) {
  std::mt19937_64 random(TestSeed());
  const testing::TinyModel model = Contradicting(random);
  const TempDir dir;
  model.Write(dir.path(), 2);
  const InspectReport report = InspectCheckpoint(dir.path(), 0);
  EXPECT_THAT(report.refusal, HasSubstr("layers.1.mlp.experts.2.gate_proj.qzeros: wanted 7 or 8 "
                                        "everywhere, as quantization_config says sym true"));
}

TEST(ZeroPointSurvey, TheSymmetricColumnIsWhatTheValuesAre) {
  std::mt19937_64 random(TestSeed());
  testing::TinyModel model = Contradicting(random);
  auto config = nlohmann::json::parse(model.config_json);
  config["quantization_config"].erase("sym");
  model.config_json = config.dump();
  const TempDir dir;
  model.Write(dir.path());
  const InspectReport report = InspectCheckpoint(dir.path(), 0);
  EXPECT_EQ(report.refusal, "");
  uint64_t symmetric = 0, asymmetric = 0;
  for (const TensorGroup& group : report.groups) {
    if (group.part == ModelPart::kRoutedExperts)
      (group.symmetric ? symmetric : asymmetric) += group.modules;
  }
  EXPECT_EQ(symmetric, 18u);
  EXPECT_EQ(asymmetric, 6u);
}

}  // namespace
}  // namespace sheaf
