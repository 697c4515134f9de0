// The packed layout against third-party-style golden vectors (256 inputs, 16 outputs), in each
// format.

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "model/linear_loader.h"
#include "nlohmann/json.hpp"
#include "tests/model/checkpoint_writer.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using nlohmann::json;
using testing::TempDir;
using testing::TestTensor;
using testing::TestTensors;

template <typename T>
void Flatten(const json& values, std::vector<T>& out) {
  for (const json& value : values) {
    if (value.is_array()) {
      Flatten(value, out);
    } else {
      out.push_back(static_cast<T>(value.get<int64_t>()));
    }
  }
}

template <typename T>
TestTensor Tensor(const std::string& dtype, const json& values) {
  std::vector<int64_t> shape;
  for (const json* level = &values; level->is_array(); level = &(*level)[0]) {
    shape.push_back(static_cast<int64_t>(level->size()));
  }
  std::vector<T> flat;
  Flatten(values, flat);
  return {dtype, shape, testing::BytesOf(flat)};
}

class GoldenVectors : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = std::string(SHEAF_REFERENCE_DATA) + "/golden_quant_vectors.json";
    std::ifstream file(path);
    if (!file)
      GTEST_SKIP() << path << " is not there; format_vectors_test reads vectors of our own";
    vectors_ = json::parse(file);
  }

  void Expect(const TestTensors& tensors, const QuantizationHints& hints, const json& wanted) {
    const TempDir dir;
    testing::WriteCheckpoint(dir.path(), tensors);
    const auto checkpoint = Checkpoint::Open(dir.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto linear = LoadLinear(**checkpoint, hints, "m", 16, 256);
    ASSERT_TRUE(linear.ok()) << linear.status();
    const std::vector<float> matrix = testing::MatrixOf(linear->view());
    for (int row = 0; row < 16; ++row) {
      for (int i = 0; i < 256; ++i) {
        ASSERT_EQ(matrix[row * 256 + i], wanted[row][i].get<float>())
            << "row " << row << " input " << i;
      }
    }
  }

  json vectors_;
};

TEST_F(GoldenVectors, Gptq) {
  const json& gptq = vectors_["gptq"];
  TestTensors tensors = {{"m.qweight", Tensor<int32_t>("I32", gptq["qweight"])},
                         {"m.scales", Tensor<uint16_t>("F16", gptq["scales_fp16_bits"])},
                         {"m.g_idx", Tensor<int32_t>("I32", gptq["g_idx"])}};
  for (const bool symmetric : {true, false}) {
    QuantizationHints hints;
    hints.method = "gptq";
    hints.symmetric = symmetric;
    tensors["m.qzeros"] = Tensor<int32_t>("I32", gptq["qzeros_v1"]);
    Expect(tensors, hints, gptq["dequant_out_in"]);
    hints.checkpoint_format = "gptq_v2";
    tensors["m.qzeros"] = Tensor<int32_t>("I32", gptq["qzeros_v2"]);
    Expect(tensors, hints, gptq["dequant_out_in"]);
  }
}

TEST_F(GoldenVectors, CompressedTensors) {
  const json& packed = vectors_["compressed_tensors"];
  const TestTensors tensors = {
      {"m.weight_packed", Tensor<int32_t>("I32", packed["weight_packed"])},
      {"m.weight_scale", Tensor<uint16_t>("BF16", packed["weight_scale_bf16_bits_out_group"])},
      {"m.weight_shape", Tensor<int64_t>("I64", packed["weight_shape"])}};
  Expect(tensors, {}, packed["dequant_out_in"]);
}

TEST_F(GoldenVectors, Awq) {
  const json& awq = vectors_["awq_gemm"];
  const TestTensors tensors = {{"m.qweight", Tensor<int32_t>("I32", awq["qweight"])},
                               {"m.qzeros", Tensor<int32_t>("I32", awq["qzeros"])},
                               {"m.scales", Tensor<uint16_t>("F16", awq["scales_fp16_bits"])}};
  Expect(tensors, {}, awq["dequant_out_in"]);
}

}  // namespace
}  // namespace sheaf
