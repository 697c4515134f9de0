// Formats that this program knows of and does not read are named, with the file and the tensor.

#include "model/formats/unread_formats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/linear_plan.h"
#include "model/model_layout.h"
#include "tests/model/checkpoint_writer.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;
using testing::TempDir;
using testing::TestTensor;
using testing::TestTensors;

constexpr int kN = 64, kK = 128;

TestTensor Zeros(const std::string& dtype, std::vector<int64_t> shape, size_t bytes) {
  return {dtype, std::move(shape), std::vector<uint8_t>(bytes)};
}

TestTensor PackedBytes() { return Zeros("U8", {kN, kK / 2}, kN * kK / 2); }

struct Unread {
  std::string name;
  TestTensors tensors;
  std::string tensor;  // that is named
  std::string format;
};

class UnreadFormats : public ::testing::TestWithParam<Unread> {};

TEST_P(UnreadFormats, AreNamed) {
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), GetParam().tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::Status status = PlanLinear(**checkpoint, {}, "m", kN, kK).status();
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr(dir.path() + "/model.safetensors: tensor " +
                                          GetParam().tensor + ": " + GetParam().format));
  EXPECT_THAT(status.message(), HasSubstr("not served"));
  EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, UnreadFormats,
    ::testing::Values(
        Unread{"Nvfp4OfCompressedTensors",
               {{"m.weight_packed", PackedBytes()},
                {"m.weight_scale", Zeros("F8_E4M3", {kN, kK / 16}, kN * kK / 16)},
                {"m.weight_global_scale", Zeros("F32", {1}, 4)}},
               "m.weight_packed",
               "NVFP4 (4-bit floats"},
        Unread{"Nvfp4OfModelOpt",
               {{"m.weight", PackedBytes()},
                {"m.weight_scale", Zeros("F8_E4M3", {kN, kK / 16}, kN * kK / 16)},
                {"m.weight_scale_2", Zeros("F32", {1}, 4)}},
               "m.weight",
               "NVFP4 (4-bit floats"},
        Unread{"Mxfp4",
               {{"m.weight_packed", PackedBytes()},
                {"m.weight_scale", Zeros("U8", {kN, kK / 32}, kN * kK / 32)}},
               "m.weight_packed",
               "MXFP4 (4-bit floats"},
        Unread{"Mxfp4OfFourBitDtype",
               {{"m.weight", Zeros("F4", {kN, kK}, kN * kK / 2)},
                {"m.weight_scale", Zeros("F8_E8M0", {kN, kK / 32}, kN * kK / 32)}},
               "m.weight",
               "MXFP4 (4-bit floats"},
        Unread{"SixBitFloats",
               {{"m.weight", Zeros("F6_E3M2", {kN, kK}, kN * kK * 6 / 8)}},
               "m.weight",
               "a format of 6-bit floats"},
        Unread{"BitsAndBytes",
               {{"m.weight", Zeros("U8", {kN * kK / 2, 1}, kN * kK / 2)},
                {"m.weight.absmax", Zeros("U8", {kN * kK / 64}, kN * kK / 64)},
                {"m.weight.quant_state.bitsandbytes__nf4", Zeros("U8", {88}, 88)}},
               "m.weight",
               "bitsandbytes"},
        Unread{"BitsAndBytesInt8",
               {{"m.weight", Zeros("I8", {kN, kK}, kN * kK)},
                {"m.SCB", Zeros("F32", {kN}, kN * 4)}},
               "m.weight",
               "bitsandbytes (8 bits"},
        Unread{"Hqq", {{"m.W_q", Zeros("U8", {1, 16}, 16)}}, "m.W_q", "HQQ"},
        Unread{"Aqlm", {{"m.codebooks", Zeros("F16", {1, 8}, 16)}}, "m.codebooks", "AQLM"}),
    [](const auto& instance) { return instance.param.name; });

TEST(UnreadFormats, OfFusedExpertsAreNamed) {
  ModelConfig config;
  config.num_layers = 1;
  config.num_experts = 2;
  config.hidden_size = kK;
  config.moe_intermediate_size = kN;
  const std::string name = "model.layers.0.mlp.experts.gate_up_proj";
  const TestTensors blocks = {{name + "_blocks", Zeros("U8", {2, 128, 4, 16}, 2 * 128 * 64)},
                              {name + "_scales", Zeros("U8", {2, 128, 4}, 2 * 128 * 4)}};
  const TestTensors packed = {
      {name, Zeros("U8", {2, 2 * kN, kK / 2}, 2 * kN * kK)},
      {name + "_weight_scale", Zeros("F8_E4M3", {2, 2 * kN, kK / 16}, 4 * kN * kK / 16)},
      {name + "_weight_scale_2", Zeros("F32", {2}, 8)}};
  for (const auto& [tensors, tensor, format] :
       {std::tuple(blocks, name + "_blocks", "MXFP4"), std::tuple(packed, name, "NVFP4")}) {
    const TempDir dir;
    testing::WriteCheckpoint(dir.path(), tensors);
    const auto checkpoint = Checkpoint::Open(dir.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const absl::Status status = PlanExpert(**checkpoint, config, 0, 1).status();
    EXPECT_THAT(status.message(), HasSubstr("tensor " + tensor + ": " + format));
  }
}

TEST(UnreadFormats, ADirectoryOfOtherFilesIsNamed) {
  const TempDir dir;
  testing::WriteFile(dir.path() + "/model-Q4_K_M.gguf", "GGUF");
  const absl::Status status = Checkpoint::Open(dir.path()).status();
  EXPECT_THAT(status.message(), HasSubstr("GGUF files are not read"));
}

}  // namespace
}  // namespace sheaf
