// FP8 Linears of every tool: the values of their file, whole, in part, fused and absorbed, and
// refusals that name what is wrong. The tools' side is here, from the formats' definitions.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/linear/linear.h"
#include "model/attention/absorbed_kv.h"
#include "model/linear_loader.h"
#include "model/model_layout.h"
#include "tests/model/checkpoint_writer.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using testing::BytesOf;
using ::testing::HasSubstr;
using testing::MatrixOf;
using testing::TempDir;
using testing::TestSeed;
using testing::TestTensors;

float E4M3(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double value = exponent == 0 ? std::ldexp(fraction, -9)
                                     : std::ldexp(8.0 + fraction, exponent - 10);
  return static_cast<float>((code & 0x80) != 0 ? -value : value);
}

// A scaled matrix, one scale for each block of rows x columns; 0 = all of them.
struct ScaledMatrix {
  int n, k, block_rows, block_columns;
  std::vector<uint8_t> codes;
  std::vector<float> scales;

  int down() const { return block_rows == 0 ? 1 : (n + block_rows - 1) / block_rows; }
  int across() const { return block_columns == 0 ? 1 : (k + block_columns - 1) / block_columns; }
  float at(int row, int column) const {
    const int block = (block_rows == 0 ? 0 : row / block_rows) * across() +
                      (block_columns == 0 ? 0 : column / block_columns);
    return E4M3(codes[static_cast<size_t>(row) * k + column]) * scales[block];
  }
  std::vector<float> Part(const LinearSlice& slice) const {
    std::vector<float> out;
    for (int row = 0; row < slice.num_rows; ++row) {
      for (int column = 0; column < slice.num_columns; ++column)
        out.push_back(at(slice.first_row + row, slice.first_column + column));
    }
    return out;
  }
  std::vector<float> Values() const { return Part({0, n, 0, k}); }
};

ScaledMatrix RandomScaled(int n, int k, int block_rows, int block_columns, std::mt19937_64& random,
                          const std::string& dtype = "F32") {
  ScaledMatrix matrix{n, k, block_rows, block_columns, {}, {}};
  for (int i = 0; i < n * k; ++i) {
    const auto magnitude = static_cast<uint8_t>(random() % 0x7F);
    matrix.codes.push_back(random() % 2 == 0 ? magnitude : magnitude | 0x80);
  }
  for (int i = 0; i < matrix.down() * matrix.across(); ++i) {
    float scale = std::uniform_real_distribution<float>(1e-4f, 1e-2f)(random);
    if (dtype == "BF16") {
      scale = testing::BFloatToFloat(static_cast<uint16_t>(random() % 512 + 0x3A00));
    } else if (dtype != "F32") {
      scale = std::ldexp(1.0f, static_cast<int>(random() % 20) - 15);
    }
    matrix.scales.push_back(scale);
  }
  return matrix;
}

testing::TestTensor ScaleTensor(const ScaledMatrix& matrix, const std::string& dtype,
                                std::vector<int64_t> shape) {
  if (dtype == "F32") return {dtype, shape, BytesOf(matrix.scales)};
  std::vector<uint8_t> bytes;
  for (const float scale : matrix.scales) {
    uint32_t bits;
    std::memcpy(&bits, &scale, 4);
    if (dtype == "BF16") {
      bytes.push_back(static_cast<uint8_t>(bits >> 16));
      bytes.push_back(static_cast<uint8_t>(bits >> 24));
    } else {
      bytes.push_back(static_cast<uint8_t>(bits >> 23));
    }
  }
  return {dtype, shape, bytes};
}

TestTensors Tensors(const ScaledMatrix& matrix, const std::string& suffix = "_scale_inv",
                    const std::string& dtype = "F32", std::vector<int64_t> shape = {}) {
  if (shape.empty()) shape = {matrix.down(), matrix.across()};
  return {{"m.weight", {"F8_E4M3", {matrix.n, matrix.k}, matrix.codes}},
          {"m.weight" + suffix, ScaleTensor(matrix, dtype, shape)}};
}

struct Loaded {
  std::unique_ptr<Checkpoint> checkpoint;
  LoadedLinear linear;
};

absl::StatusOr<Loaded> LoadPart(const TestTensors& tensors, int n, int k, const LinearSlice& slice,
                                const QuantizationHints& hints = {}) {
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), tensors, 2);
  Loaded loaded;
  SHEAF_ASSIGN_OR_RETURN(loaded.checkpoint, Checkpoint::Open(dir.path()));
  SHEAF_ASSIGN_OR_RETURN(const LinearPlan plan, PlanLinear(*loaded.checkpoint, hints, "m", n, k));
  SHEAF_ASSIGN_OR_RETURN(const auto arena, PackedArena::Reserve(MaxArenaBytes(plan, slice)));
  LoadScratch scratch;
  SHEAF_ASSIGN_OR_RETURN(loaded.linear,
                         LoadPlannedLinear(*loaded.checkpoint, plan, slice, arena, scratch));
  return loaded;
}

struct ScaleCase {
  std::string name;
  int block_rows, block_columns;  // 0 = all
  std::string suffix, dtype;
  std::vector<int64_t> (*shape)(int n, int k);  // of a case whose shape says it otherwise
};

std::vector<int64_t> ShapeOf(const ScaleCase& scales, int n, int k) {
  return scales.shape == nullptr ? std::vector<int64_t>{} : scales.shape(n, k);
}

class Fp8Weights : public ::testing::TestWithParam<ScaleCase> {
 protected:
  void SetUp() override { RecordProperty("seed", absl::StrFormat("%d", seed_)); }
  const uint64_t seed_ = TestSeed();
  std::mt19937_64 random_{seed_};
};

// Whole and cut anywhere, as attention is divided by heads; bits, not values near them.
TEST_P(Fp8Weights, AreTheProductsOfCodesAndScales) {
  const ScaleCase& scales = GetParam();
  for (int round = 0; round < 4; ++round) {
    const int n = 130 + static_cast<int>(random_() % 300);
    const int k = 140 + static_cast<int>(random_() % 300);
    SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d, n %d, k %d", seed_, n, k));
    const ScaledMatrix matrix =
        RandomScaled(n, k, scales.block_rows, scales.block_columns, random_, scales.dtype);
    TestTensors tensors = Tensors(matrix, scales.suffix, scales.dtype, ShapeOf(scales, n, k));
    // Of activations, which are not quantized to 8 bits here.
    tensors["m.input_scale"] = {"F32", {1}, BytesOf(std::vector<float>{2})};
    for (const LinearSlice& slice :
         {LinearSlice{0, n, 0, k}, LinearSlice{3, 77, 0, k}, LinearSlice{0, n, 128, k - 128},
          LinearSlice{100, 29, 5, 131}, LinearSlice{n - 1, 1, k - 1, 1}}) {
      const auto loaded = LoadPart(tensors, n, k, slice);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      const kernels::Linear& view = loaded->linear.view();
      ASSERT_EQ(view.storage, kernels::Linear::Storage::kDense);
      EXPECT_EQ(view.dense.format, kernels::FloatFormat::kE4M3);
      ASSERT_EQ(MatrixOf(view), matrix.Part(slice));
    }
  }
}

// The promise: what a matrix of the decoded values gives, bit by bit.
TEST_P(Fp8Weights, MultiplyLikeTheDecodedMatrix) {
  const ScaleCase& scales = GetParam();
  const int n = 150, k = 300, rows = 3;
  const ScaledMatrix matrix =
      RandomScaled(n, k, scales.block_rows, scales.block_columns, random_, scales.dtype);
  const auto loaded = LoadPart(
      Tensors(matrix, scales.suffix, scales.dtype, ShapeOf(scales, n, k)), n, k, {0, n, 0, k});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const std::vector<float> values = matrix.Values();
  kernels::Linear decoded;
  decoded.storage = kernels::Linear::Storage::kDense;
  decoded.dense = {n, k, kernels::FloatFormat::kF32, values.data(), {}};
  std::vector<float> x(rows * k), y(rows * n), wanted(rows * n);
  for (float& value : x) value = std::normal_distribution<float>()(random_);
  kernels::Activations activations;
  activations.num_rows = rows;
  activations.k = k;
  activations.floats = x.data();
  ThreadPool pool(2);
  const kernels::LinearCall call{&loaded->linear.view(), &activations, y.data(), n};
  const kernels::LinearCall wanted_call{&decoded, &activations, wanted.data(), n};
  kernels::RunLinears(pool, {&call, 1});
  kernels::RunLinears(pool, {&wanted_call, 1});
  EXPECT_EQ(y, wanted) << "SHEAF_TEST_SEED=" << seed_;
}

INSTANTIATE_TEST_SUITE_P(
    All, Fp8Weights,
    ::testing::Values(
        ScaleCase{"Blocks", 128, 128, "_scale_inv", "F32", nullptr},
        ScaleCase{"BlocksBf16", 128, 128, "_scale_inv", "BF16", nullptr},
        ScaleCase{"BlocksOfCompressedTensors", 128, 128, "_scale", "BF16", nullptr},
        ScaleCase{"SmallBlocks", 64, 64, "_scale_inv", "F32", nullptr},
        ScaleCase{"BlocksOfExponents", 128, 128, "_scale_inv", "F8_E8M0", nullptr},
        ScaleCase{"Groups", 1, 128, "_scale", "F32", nullptr},
        ScaleCase{"GroupsOf32Exponents", 1, 32, "_scale", "U8", nullptr},
        ScaleCase{"Rows", 1, 0, "_scale", "BF16", nullptr},
        ScaleCase{"RowsWithoutASecondDimension", 1, 0, "_scale", "F32",
                  [](int n, int) { return std::vector<int64_t>{n}; }},
        ScaleCase{"Tensor", 0, 0, "_scale", "F32",
                  [](int, int) { return std::vector<int64_t>{1}; }}),
    [](const auto& instance) { return instance.param.name; });

TEST(Fp8Weights, OneScaleMayBeAScalar) {
  std::mt19937_64 random(TestSeed());
  const ScaledMatrix matrix = RandomScaled(20, 40, 0, 0, random);
  TestTensors tensors = Tensors(matrix, "_scale");
  tensors["m.weight_scale"].shape = {};
  const auto loaded = LoadPart(tensors, 20, 40, {0, 20, 0, 40});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(MatrixOf(loaded->linear.view()), matrix.Values());
}

TEST(Fp8Weights, TheConfigSaysBlocksThatShapesLeaveOpen) {
  std::mt19937_64 random(TestSeed());
  const ScaledMatrix matrix = RandomScaled(200, 300, 96, 160, random);
  EXPECT_THAT(LoadPart(Tensors(matrix), 200, 300, {0, 200, 0, 300}).status().message(),
              HasSubstr("square block"));
  QuantizationHints hints;
  hints.block_rows = 96;
  hints.block_columns = 160;
  const auto loaded = LoadPart(Tensors(matrix), 200, 300, {0, 200, 0, 300}, hints);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(MatrixOf(loaded->linear.view()), matrix.Values());
}

TEST(Fp8Weights, KeepTheirBytes) {
  std::mt19937_64 random(TestSeed());
  const ScaledMatrix matrix = RandomScaled(512, 512, 128, 128, random);
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), Tensors(matrix));
  const auto checkpoint = Checkpoint::Open(dir.path());
  const auto plan = PlanLinear(**checkpoint, {}, "m", 512, 512);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->file_bytes(), 512u * 512 + 16 * 4);
  EXPECT_LE(MaxArenaBytes(*plan, {}), 512u * 512 + 256);
}

struct Fault {
  std::string name;
  void (*damage)(TestTensors&);
  std::vector<std::string> message;
};

class BadFp8Weights : public ::testing::TestWithParam<Fault> {};

TEST_P(BadFp8Weights, AreRefusedByName) {
  std::mt19937_64 random(3);
  TestTensors tensors = Tensors(RandomScaled(256, 512, 128, 128, random));
  GetParam().damage(tensors);
  const auto loaded = LoadPart(tensors, 256, 512, {0, 256, 0, 512});
  ASSERT_FALSE(loaded.ok());
  for (const std::string& part : GetParam().message) {
    EXPECT_THAT(loaded.status().message(), HasSubstr(part));
  }
}

void SetScale(TestTensors& tensors, int index, float value) {
  std::memcpy(&tensors["m.weight_scale_inv"].bytes[4 * index], &value, 4);
}

void Reshape(TestTensors& tensors, std::vector<int64_t> shape) {
  size_t count = 1;
  for (const int64_t side : shape) count *= static_cast<size_t>(side);
  tensors["m.weight_scale_inv"] = {"F32", std::move(shape), BytesOf(std::vector<float>(count, 1))};
}

std::vector<Fault> Faults() {
  return {
      Fault{"NanCode", [](TestTensors& t) { t["m.weight"].bytes[3 * 512 + 7] = 0x7F; },
            {"m.weight", "NaN or Inf at row 3, column 7"}},
      Fault{"NegativeNanCode", [](TestTensors& t) { t["m.weight"].bytes[256 * 512 - 1] = 0xFF; },
            {"m.weight", "NaN or Inf at row 255, column 511"}},
      Fault{"NanScale", [](TestTensors& t) { SetScale(t, 5, NAN); },
            {"m.weight_scale_inv", "finite scales", "nan at block row 1, block column 1"}},
      Fault{"InfScale", [](TestTensors& t) { SetScale(t, 0, INFINITY); },
            {"m.weight_scale_inv", "inf at block row 0, block column 0"}},
      Fault{"ScaleWhoseWeightsAreInf", [](TestTensors& t) { SetScale(t, 2, 1e37f); },
            {"m.weight_scale_inv", "block row 0, block column 2"}},
      Fault{"NoScales", [](TestTensors& t) { t.erase("m.weight_scale_inv"); },
            {"m.weight", "missing its scales", "m.weight_scale_inv"}},
      Fault{"TwoScales", [](TestTensors& t) { t["m.weight_scale"] = t["m.weight_scale_inv"]; },
            {"m.weight_scale", "two: also m.weight_scale_inv"}},
      Fault{"BlocksThatDoNotDivide", [](TestTensors& t) { Reshape(t, {3, 4}); },
            {"m.weight_scale_inv", "FP8 [256, 512]", "shape [3, 4]"}},
      Fault{"TransposedBlocks", [](TestTensors& t) { Reshape(t, {4, 2}); },
            {"m.weight_scale_inv", "shape [4, 2]"}},
      Fault{"ScalesOfInputs", [](TestTensors& t) { Reshape(t, {1, 512}); },
            {"m.weight_scale_inv", "shape [1, 512]"}},
      Fault{"AsManyAsParts", [](TestTensors& t) { Reshape(t, {3}); },
            {"m.weight_scale_inv", "shape [3]"}},
      Fault{"WrongShape", [](TestTensors& t) { t["m.weight"].shape = {512, 256}; },
            {"m.weight", "[256, 512]", "[512, 256]"}},
      Fault{"OtherFloats", [](TestTensors& t) { t["m.weight"].dtype = "F8_E5M2"; },
            {"m.weight", "e5m2", "not served"}},
      Fault{"OtherBias", [](TestTensors& t) { t["m.weight"].dtype = "F8_E4M3FNUZ"; },
            {"m.weight", "fnuz", "not served"}},
      Fault{"IntegerScales", [](TestTensors& t) { t["m.weight_scale_inv"].dtype = "I32"; },
            {"m.weight_scale_inv", "dtype F32", "I32"}}};
}

INSTANTIATE_TEST_SUITE_P(All, BadFp8Weights, ::testing::ValuesIn(Faults()),
                         [](const auto& instance) { return instance.param.name; });

// All experts in one tensor, up's rows beginning inside a block of scales.
TEST(Fp8Weights, OfFusedExperts) {
  std::mt19937_64 random(TestSeed());
  constexpr int kExperts = 3, kHidden = 200, kWidth = 72;
  ModelConfig config;
  config.num_layers = 1;
  config.num_experts = kExperts;
  config.hidden_size = kHidden;
  config.moe_intermediate_size = kWidth;
  for (const bool rows : {false, true}) {
    TestTensors tensors;
    std::vector<ScaledMatrix> gate_up, down;
    const auto add = [&](const std::string& name, int n, int k, std::vector<ScaledMatrix>& all) {
      testing::TestTensor codes{"F8_E4M3", {kExperts, n, k}, {}};
      std::vector<float> scales;
      for (int expert = 0; expert < kExperts; ++expert) {
        all.push_back(RandomScaled(n, k, rows ? 1 : 64, rows ? 0 : 64, random));
        codes.bytes.insert(codes.bytes.end(), all.back().codes.begin(), all.back().codes.end());
        scales.insert(scales.end(), all.back().scales.begin(), all.back().scales.end());
      }
      tensors[name] = codes;
      tensors[name + (rows ? "_scale" : "_scale_inv")] = {
          "F32", {kExperts, all[0].down(), all[0].across()}, BytesOf(scales)};
    };
    const std::string prefix = "model.layers.0.mlp.experts.";
    add(prefix + "gate_up_proj", 2 * kWidth, kHidden, gate_up);
    add(prefix + "down_proj", kHidden, kWidth, down);
    const TempDir dir;
    testing::WriteCheckpoint(dir.path(), tensors);
    const auto checkpoint = Checkpoint::Open(dir.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    uint64_t bytes = 0, file_bytes = 0;
    for (const auto& [name, tensor] : tensors) file_bytes += tensor.bytes.size();
    for (int expert = 0; expert < kExperts; ++expert) {
      const auto plans = PlanExpert(**checkpoint, config, 0, expert);
      ASSERT_TRUE(plans.ok()) << plans.status();
      const std::vector<float> wanted[] = {gate_up[expert].Part({0, kWidth, 0, kHidden}),
                                           gate_up[expert].Part({kWidth, kWidth, 0, kHidden}),
                                           down[expert].Values()};
      for (int i = 0; i < 3; ++i) {
        const auto arena = PackedArena::Reserve(MaxArenaBytes((*plans)[i], {}));
        LoadScratch scratch;
        const auto linear = LoadPlannedLinear(**checkpoint, (*plans)[i], {}, *arena, scratch);
        ASSERT_TRUE(linear.ok()) << linear.status();
        EXPECT_EQ(MatrixOf(linear->view()), wanted[i]) << "expert " << expert << ", part " << i;
        bytes += (*plans)[i].file_bytes();
      }
    }
    EXPECT_EQ(bytes, file_bytes) << "each byte belongs to one Linear";
  }
}

// kv_b_proj of latent attention: heads begin inside blocks, keys are transposed.
TEST(Fp8Weights, OfAbsorbedKv) {
  std::mt19937_64 random(TestSeed());
  constexpr int kHeads = 3, kNope = 48, kV = 32, kRank = 320, kRows = kHeads * (kNope + kV);
  struct Case {
    int block_rows, block_columns;
  };
  for (const Case& blocks : {Case{128, 128}, Case{32, 32}, Case{1, 0}, Case{0, 0}, Case{1, 64}}) {
    SCOPED_TRACE(absl::StrFormat("%d x %d", blocks.block_rows, blocks.block_columns));
    const ScaledMatrix matrix =
        RandomScaled(kRows, kRank, blocks.block_rows, blocks.block_columns, random);
    for (const LinearSlice& slice :
         {LinearSlice{0, kRows, 0, kRank}, LinearSlice{kNope + kV, kNope + kV, 0, kRank}}) {
      const auto loaded = LoadPart(Tensors(matrix, "_scale"), kRows, kRank, slice);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      const int heads = slice.num_rows / (kNope + kV);
      const auto absorbed = AbsorbedKv::Build(loaded->linear.view(), heads, kNope, kV);
      ASSERT_TRUE(absorbed.ok()) << absorbed.status();
      EXPECT_LT(absorbed->memory_bytes(), size_t(slice.num_rows) * kRank * 5 / 4 +
                                              2 * sizeof(float) * matrix.scales.size() + 1024);
      for (int head = 0; head < heads; ++head) {
        const int first = slice.first_row + head * (kNope + kV);
        ASSERT_EQ(absorbed->key_up(head).size(), 1u);
        const std::vector<float> key = MatrixOf(absorbed->key_up(head)[0].linear);
        for (int j = 0; j < kRank; ++j) {
          for (int i = 0; i < kNope; ++i) ASSERT_EQ(key[j * kNope + i], matrix.at(first + i, j));
        }
        EXPECT_EQ(MatrixOf(absorbed->value_up(head)),
                  matrix.Part({first + kNope, kV, 0, kRank}));
      }
    }
  }
}

}  // namespace
}  // namespace sheaf
