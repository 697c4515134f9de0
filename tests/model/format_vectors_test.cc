// Small matrices in every file format (format_vectors/*.json, made by
// tests/oracle/format_vectors.py from the formats' definitions): each format loads to exactly the
// matrix that the file names.

#include <gtest/gtest.h>

#include <charconv>
#include <fstream>

#include "model/linear_loader.h"
#include "model/quantization/quantization_hints.h"
#include "nlohmann/json.hpp"
#include "tests/model/checkpoint_writer.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using nlohmann::json;
using testing::TempDir;
using testing::TestTensor;
using testing::TestTensors;

size_t BytesOfElement(const std::string& dtype) {
  if (dtype == "I64") return 8;
  if (dtype == "I32" || dtype == "F32") return 4;
  return dtype == "F16" || dtype == "BF16" ? 2 : 1;
}

// Elements are hexadecimal numbers of fixed width, the most significant digit first.
TestTensor Tensor(const json& item) {
  TestTensor tensor{item["dtype"], item["shape"].get<std::vector<int64_t>>(), {}};
  const size_t bytes = BytesOfElement(tensor.dtype);
  for (const std::string row : item["rows"]) {
    for (size_t place = 0; place < row.size(); place += 2 * bytes) {
      uint64_t bits = 0;
      std::from_chars(&row[place], &row[place] + 2 * bytes, bits, 16);
      for (size_t byte = 0; byte < bytes; ++byte) tensor.bytes.push_back(bits >> (8 * byte) & 0xff);
    }
  }
  return tensor;
}

void ExpectMatrix(const json& format, const json& weights, float unit) {
  const int outputs = static_cast<int>(weights.size());
  const int inputs = static_cast<int>(weights[0].size());
  TestTensors tensors;
  for (const auto& [name, item] : format["tensors"].items()) tensors["m." + name] = Tensor(item);
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto hints = ReadQuantizationHints(format["quantization_config"], "config.json");
  ASSERT_TRUE(hints.ok()) << hints.status();
  const auto linear = LoadLinear(**checkpoint, *hints, "m", outputs, inputs);
  ASSERT_TRUE(linear.ok()) << linear.status();
  const std::vector<float> matrix = testing::MatrixOf(linear->view());
  for (int row = 0; row < outputs; ++row) {
    for (int i = 0; i < inputs; ++i) {
      const float wanted = unit * static_cast<float>(weights[row][i].get<int>());
      ASSERT_EQ(matrix[row * inputs + i], wanted) << "row " << row << " input " << i;
    }
  }
}

// Of every format in the file.
void ExpectEveryFormat(const std::string& name) {
  const std::string path =
      std::string(SHEAF_SOURCE_DIR) + "/tests/model/format_vectors/" + name + ".json";
  std::ifstream file(path);
  ASSERT_TRUE(file) << path;
  const json vectors = json::parse(file);
  ASSERT_GE(vectors["formats"].size(), 1u);
  for (const auto& [format_name, format] : vectors["formats"].items()) {
    SCOPED_TRACE(format_name);
    ExpectMatrix(format, vectors["weights"], vectors["unit"].get<float>());
  }
}

TEST(FormatVectors, FourBit) { ExpectEveryFormat("four_bit"); }

TEST(FormatVectors, FourBitWithZeroPoints) { ExpectEveryFormat("four_bit_zeros"); }

TEST(FormatVectors, FourBitWithAScaleARow) { ExpectEveryFormat("four_bit_rows"); }

TEST(FormatVectors, FourBitInAnotherOrder) { ExpectEveryFormat("four_bit_order"); }

TEST(FormatVectors, FourBitWithZeroPointsAsBytes) { ExpectEveryFormat("four_bit_zero_bytes"); }

TEST(FormatVectors, EightBit) { ExpectEveryFormat("eight_bit"); }

TEST(FormatVectors, EightBitWithZeroPoints) { ExpectEveryFormat("eight_bit_zeros"); }

TEST(FormatVectors, EightBitWithZeroPointsAsBytes) { ExpectEveryFormat("eight_bit_zero_bytes"); }

TEST(FormatVectors, EightBitWithAScaleARow) { ExpectEveryFormat("eight_bit_rows"); }

TEST(FormatVectors, EightBitInAnotherOrder) { ExpectEveryFormat("eight_bit_order"); }

TEST(FormatVectors, Fp8WithOneScale) { ExpectEveryFormat("fp8_tensor"); }

TEST(FormatVectors, Fp8WithAScaleARow) { ExpectEveryFormat("fp8_channel"); }

TEST(FormatVectors, Fp8WithAScaleABlock) { ExpectEveryFormat("fp8_block"); }

}  // namespace
}  // namespace sheaf
