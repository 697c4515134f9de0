// What a quantization_config says: in strings or numbers, of layouts and rotations that would make
// weights mean something else, and what of it is not used.

#include "model/quantization/quantization_hints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/config.h"
#include "nlohmann/json.hpp"
#include "tests/model/tiny_model.h"

namespace sheaf {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<QuantizationHints> Read(const std::string& json) {
  return ReadQuantizationHints(nlohmann::ordered_json::parse(json), "config.json");
}

TEST(QuantizationHints, TakeNumbersAndTruthFromStrings) {
  const auto hints = Read(R"({"quant_method":"gptq","bits":"4","group_size":"128","sym":"true",
                              "desc_act":"False"})");
  ASSERT_TRUE(hints.ok()) << hints.status();
  EXPECT_EQ(hints->bits, 4);
  EXPECT_EQ(hints->group_size, 128);
  EXPECT_EQ(hints->symmetric, true);
  EXPECT_FALSE(hints->desc_act);
  EXPECT_THAT(hints->remarks, IsEmpty());
}

TEST(QuantizationHints, AbsentAndNullAreNotSaid) {
  const auto hints = Read(R"({"quant_method":"gptq","bits":null,"group_size":null,"sym":null})");
  ASSERT_TRUE(hints.ok()) << hints.status();
  EXPECT_EQ(hints->bits, 0);
  EXPECT_EQ(hints->group_size, 0);
  EXPECT_EQ(hints->symmetric, std::nullopt);
}

TEST(QuantizationHints, UnreadableValuesAreRemarksAndStopNothing) {
  const auto hints = Read(R"({"quant_method":5,"bits":[4],"group_size":"many","sym":"perhaps",
                              "dynamic":{"+:(":{"sym":false}},"config_groups":7})");
  ASSERT_TRUE(hints.ok()) << hints.status();
  EXPECT_EQ(hints->symmetric, std::nullopt);
  EXPECT_THAT(hints->remarks, Contains(HasSubstr("quantization_config.bits: wanted an integer in "
                                                 "0..64, got [4]; not used")));
  EXPECT_THAT(hints->remarks, Contains(HasSubstr("group_size: wanted an integer")));
  EXPECT_THAT(hints->remarks, Contains(HasSubstr("sym: wanted true or false, got \"perhaps\"")));
  EXPECT_THAT(hints->remarks, Contains(HasSubstr("the expression \"(\" cannot be read")));
}

TEST(QuantizationHints, OverridesHoldForTheirModules) {
  const auto hints = Read(R"({"quant_method":"gptq","bits":4,"group_size":128,"sym":true,
      "dynamic":{"-:.*gate$":{},"+:.*attn.*":{"bits":8,"group_size":32},
                 ".*down.*":{"bits":"3"}}})");
  ASSERT_TRUE(hints.ok()) << hints.status();
  EXPECT_EQ(hints->Of("m.attn.q").bits, 8);
  EXPECT_EQ(hints->Of("m.attn.q").group_size, 32);
  EXPECT_EQ(hints->Of("m.attn.gate").bits, 4) << "the first match holds";
  EXPECT_EQ(hints->Of("m.down").bits, 3);
  EXPECT_EQ(hints->Of("m.up").symmetric, true);
}

TEST(QuantizationHints, KnowTheNamedSchemesOfCompressedTensors) {
  const auto hints = Read(R"({"quant_method":"compressed-tensors",
                              "config_groups":{"W4A16_ASYM":["Linear"]}})");
  ASSERT_TRUE(hints.ok()) << hints.status();
  EXPECT_EQ(hints->Of("m.up_proj").symmetric, false);
  EXPECT_EQ(hints->bits, 4);
}

struct RefusedCase {
  const char* json;
  const char* message;
};

TEST(QuantizationHints, LayoutsThatNothingReadsAreRefusedByKey) {
  const RefusedCase cases[] = {
      {R"({"quant_method":"gptq","checkpoint_format":"marlin"})", "checkpoint_format"},
      {R"({"quant_method":"gptq","format":"bitblas"})", "quantization_config.format"},
      {R"({"quant_method":"gptq","is_marlin_format":true})", "is_marlin_format"},
      {R"({"quant_method":"gptq","pack_dtype":"int16"})",
       "pack_dtype: wanted int32, got \"int16\""},
      {R"({"quant_method":"awq","version":"GEMV_FAST"})", "version"},
      {R"({"quant_method":"compressed-tensors","sparsity_config":{"format":"sparse-24-bitmask"}})",
       "sparsity_config.format: wanted dense"}};
  for (const RefusedCase& test : cases) {
    const auto hints = Read(test.json);
    EXPECT_EQ(hints.status().code(), absl::StatusCode::kUnimplemented) << test.json;
    EXPECT_THAT(hints.status().message(), HasSubstr(test.message));
    EXPECT_THAT(hints.status().message(), HasSubstr("config.json"));
  }
  for (const char* json : {R"({"quant_method":"gptq","checkpoint_format":"gptq_v2"})",
                           R"({"quant_method":"awq","version":"gemm"})",
                           R"({"quant_method":"gptq","pack_dtype":"int32","actorder":true,
                               "static_groups":true,"is_marlin_format":false})",
                           R"({"quant_method":"compressed-tensors","format":"pack-quantized",
                               "version":"0.12.2","sparsity_config":{}})"}) {
    EXPECT_TRUE(Read(json).ok()) << json << Read(json).status();
  }
}

TEST(Rotations, OfActivationsAreRefusedByName) {
  const RefusedCase cases[] = {
      {R"({"transform_config":{"config_groups":{"R1":{"type":"hadamard","apply":[
           {"targets":["Linear"],"location":"weight_output"}]},"R3":{"type":"hadamard","apply":[
           {"targets":["self_attn"],"location":"q_attn"}]}}}})",
       "quantization_config.transform_config.config_groups.R3.apply[0]: wanted weights that need "
       "no rotation at run time, got location \"q_attn\""},
      {R"({"transform_config":{"config_groups":{"R4":{"apply":[{"location":"input"}]}}}})", "R4"},
      {R"({"transform_config":{"config_groups":{"u":{"apply":[{"location":"output"}]}}}})",
       "output"},
      {R"({"transform_config":{"config_groups":{"k":{"apply":[{"location":"k_cache"}]}}}})",
       "k_cache"},
      {R"({"transform_config":{"R":1}})", "transform_config"},
      {R"({"rotation_config":{"block_size":128,"hadamard_type":"hadamard"}})",
       "quantization_config.rotation_config"},
      {R"({"rotation_config":"random_hadamard"})", "rotation_config"},
      {R"({"spinquant_config":{"r1":true,"r2":true}})", "r1 with online_r1_rotation"},
      {R"({"spinquant_config":{"r1":true,"online_r1_rotation":false,"r3":true}})", "r3"},
      {R"({"spinquant_config":{"r1":false,"r4":true}})", "r4"}};
  for (const RefusedCase& test : cases) {
    const auto hints = Read(test.json);
    EXPECT_EQ(hints.status().code(), absl::StatusCode::kUnimplemented) << test.json;
    EXPECT_THAT(hints.status().message(), HasSubstr(test.message));
    EXPECT_THAT(hints.status().message(), HasSubstr("config.json"));
  }
}

TEST(Rotations, ThatAreFoldedIntoWeightsAreFine) {
  for (const char* json :
       {R"({"transform_config":{},"rotation_config":{},"spinquant_config":{}})",
        R"({"transform_config":null,"rotation_config":""})",
        R"({"transform_config":{"config_groups":{}}})",
        R"({"transform_config":{"config_groups":{"R1":{"type":"hadamard","apply":[
            {"targets":["re:.*o_proj"],"location":"weight_output"},
            {"targets":["re:.*q_proj"],"location":"weight_input","inverse":true}]}}}})",
        R"({"spinquant_config":{"r1":true,"r2":true,"online_r1_rotation":false}})"}) {
    EXPECT_TRUE(Read(json).ok()) << json << Read(json).status();
  }
}

TEST(Rotations, BesideTheQuantizationConfigAreSeenToo) {
  std::mt19937_64 random(testing::TestSeed());
  const auto model = testing::MakeTinyModel(testing::TinyStorage::kGptq, 4, random);
  auto config = nlohmann::json::parse(model.config_json);
  config["spinquant_config"] = {{"r4", true}};
  const auto parsed = ParseModelConfig(config.dump(), "", "config.json");
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(parsed.status().message(), HasSubstr("config.json: spinquant_config"));
}

TEST(QuantizationHints, RemarkOnWhatIsNotComputed) {
  const auto hints = Read(R"({"quant_method":"compressed-tensors","kv_cache_scheme":{"num_bits":8},
      "config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":4},
      "input_activations":{"num_bits":8,"dynamic":false}}}})");
  ASSERT_TRUE(hints.ok()) << hints.status();
  EXPECT_THAT(hints->remarks, Contains(HasSubstr("group_0.input_activations")));
  EXPECT_THAT(hints->remarks, Contains(HasSubstr("kv_cache_scheme")));
}

}  // namespace
}  // namespace sheaf
