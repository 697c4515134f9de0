// A damaged Linear is refused with a message that names its tensor, what was wanted and what was
// there.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "model/linear_loader.h"
#include "tests/model/checkpoint_writer.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using testing::BytesOf;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::TestTensors;

constexpr int kN = 32, kK = 256;

TestTensors Gptq() {
  std::mt19937_64 random(1);
  return testing::PackGptq(testing::RandomMatrix(kN, kK, {}, random), "m", 1, true);
}

TestTensors PackQuantized() {
  std::mt19937_64 random(1);
  testing::MatrixOptions options;
  options.scale_dtype = "BF16";
  options.symmetric = false;
  return testing::PackPackQuantized(testing::RandomMatrix(kN, kK, options, random), "m", true,
                                    true);
}

TestTensors Awq() {
  std::mt19937_64 random(1);
  return testing::PackAwq(testing::RandomMatrix(kN, kK, {}, random), "m");
}

TestTensors IntQuantized() {
  std::mt19937_64 random(1);
  testing::MatrixOptions options;
  options.symmetric = false;
  options.bits = 8;
  const auto matrix = testing::RandomMatrix(kN, kK, options, random);
  return testing::PackIntQuantized(matrix, "m", true, false);
}

TestTensors Plain() {
  std::mt19937_64 random(1);
  return {{"m.weight", testing::PlainTensor("BF16", {kN, kK}, random)}};
}

void SetHalf(TestTensors& tensors, const std::string& name, size_t index, uint16_t bits) {
  auto& bytes = tensors.at(name).bytes;
  bytes[2 * index] = static_cast<uint8_t>(bits);
  bytes[2 * index + 1] = static_cast<uint8_t>(bits >> 8);
}

testing::TestTensor Words(std::vector<int64_t> shape) {
  return {"I32", shape, BytesOf(std::vector<int32_t>(static_cast<size_t>(shape[0] * shape[1])))};
}

struct Damage {
  std::string name;
  TestTensors (*good)();
  std::function<void(TestTensors&)> damage;
  std::vector<std::string> message;  // all of these
};

class BadWeights : public ::testing::TestWithParam<Damage> {};

TEST_P(BadWeights, AreRefusedByName) {
  const Damage& damage = GetParam();
  TestTensors tensors = damage.good();
  const auto load = [&]() -> absl::Status {
    const TempDir dir;
    testing::WriteCheckpoint(dir.path(), tensors, 2);
    const auto checkpoint = Checkpoint::Open(dir.path());
    if (!checkpoint.ok()) return checkpoint.status();
    return LoadLinear(**checkpoint, {}, "m", kN, kK).status();
  };
  ASSERT_TRUE(load().ok()) << load();
  damage.damage(tensors);
  const absl::Status status = load();
  ASSERT_FALSE(status.ok());
  for (const std::string& part : damage.message)
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
}

std::vector<Damage> Damages() {
  return {Damage{"Nothing",
                 Gptq,
                 [](TestTensors& t) { t.erase("m.qweight"); },
                 {"missing tensor m", ".qweight, .weight_packed, .weight"}},
          Damage{"NoScales",
                 Gptq,
                 [](TestTensors& t) { t.erase("m.scales"); },
                 {"missing tensor m.scales"}},
          Damage{"ThreeBits",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.qweight"] = Words({kK * 3 / 32, kN});
                 },
                 {".safetensors", "m.qweight", "wanted shape [32, 32]", "got [24, 32]", "3-bit"}},
          Damage{"TwoBits",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.qweight"] = Words({kK / 16, kN});
                 },
                 {"m.qweight", "or [64, 32] of 8-bit words", "2-bit"}},
          Damage{"FiveBits",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.qweight"] = Words({kK * 5 / 32, kN});
                 },
                 {"m.qweight", "5-bit"}},
          Damage{"SixBits",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.qweight"] = Words({kK * 6 / 32, kN});
                 },
                 {"m.qweight", "6-bit"}},
          Damage{"EightBitCodesWithFourBitZeros",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.qweight"] = Words({kK / 4, kN});
                 },
                 {"m.qzeros", "wanted shape [2, 8]", "got [2, 4]"}},
          Damage{"EightBitAwq",
                 Awq,
                 [](TestTensors& t) {
                   t["m.qweight"] = Words({kK, kN / 4});
                 },
                 {"m.qweight", "wanted shape [256, 4] of 4-bit words", "8-bit weights in AutoAWQ"}},
          Damage{"IntQuantizedWithoutScales",
                 IntQuantized,
                 [](TestTensors& t) { t.erase("m.weight_scale"); },
                 {"missing tensor m.weight_scale"}},
          Damage{"IntQuantizedScaleShape",
                 IntQuantized,
                 [](TestTensors& t) {
                   t["m.weight_scale"].shape = {2, kN};
                 },
                 {"m.weight_scale", "wanted shape [32, groups]"}},
          Damage{"IntQuantizedShape",
                 IntQuantized,
                 [](TestTensors& t) {
                   t["m.weight"].shape = {kK, kN};
                 },
                 {"m.weight", "wanted shape [32, 256]", "got [256, 32]"}},
          Damage{"IntQuantizedZeroDtype",
                 IntQuantized,
                 [](TestTensors& t) { t["m.weight_zero_point"].dtype = "U8"; },
                 {"m.weight_zero_point", "wanted dtype I8", "got U8"}},
          Damage{"IntQuantizedNanScale",
                 IntQuantized,
                 [](TestTensors& t) { SetHalf(t, "m.weight_scale", 2 * 20 + 1, 0x7E00); },
                 {"m.weight_scale", "output row 20, group 1"}},
          Damage{"Marlin",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.qweight"] = Words({kK / 16, 2 * kN});
                 },
                 {"m.qweight", "got [16, 64]"}},
          Damage{"WordDtype",
                 Gptq,
                 [](TestTensors& t) { t["m.qweight"].dtype = "F32"; },
                 {"m.qweight", "wanted dtype I32", "got F32"}},
          Damage{"ScaleShape",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.scales"].shape = {kN, kK / 128};
                 },
                 {"m.scales", "wanted shape [groups, 32]", "got [32, 2]"}},
          Damage{"ScaleDtype",
                 Gptq,
                 [](TestTensors& t) { t["m.scales"].dtype = "I16"; },
                 {"m.scales", "BF16 or F16 or F32", "got I16"}},
          Damage{"GroupsOfSixteen",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.scales"] = {"F16", {16, kN}, std::vector<uint8_t>(2 * 16 * kN)};
                 },
                 {"m.scales", "multiple of 32"}},
          Damage{"NanScale",
                 Gptq,
                 [](TestTensors& t) { SetHalf(t, "m.scales", kN + 5, 0x7E01); },
                 {"m.scales", "wanted finite scales", "output row 5, group 1"}},
          Damage{"InfiniteScale",
                 Gptq,
                 [](TestTensors& t) { SetHalf(t, "m.scales", 0, 0xFC00); },
                 {"m.scales", "output row 0, group 0"}},
          Damage{"ZeroShape",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.qzeros"] = Words({1, kN / 8});
                 },
                 {"m.qzeros", "wanted shape [2, 4]", "got [1, 4]"}},
          Damage{"GIdxShape",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.g_idx"] = {"I32", {8}, std::vector<uint8_t>(32)};
                 },
                 {"m.g_idx", "wanted shape [256]"}},
          Damage{"GIdxRange",
                 Gptq,
                 [](TestTensors& t) { t["m.g_idx"].bytes[4 * 9] = 2; },
                 {"m.g_idx", "groups in 0..1", "2 at input 9"}},
          Damage{"GIdxUneven",
                 Gptq,
                 [](TestTensors& t) { t["m.g_idx"].bytes[0] = 1; },
                 {"m.g_idx", "multiples of 32 inputs"}},
          Damage{"BiasShape",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.bias"] = {"F16", {3}, std::vector<uint8_t>(6)};
                 },
                 {"m.bias", "wanted shape [32]"}},
          Damage{"NanBias",
                 Gptq,
                 [](TestTensors& t) {
                   t["m.bias"] = {"F16", {kN}, std::vector<uint8_t>(2 * kN)};
                   SetHalf(t, "m.bias", 7, 0x7E00);
                 },
                 {"m.bias", "element 7"}},
          Damage{"PackedEightBitCodesWithFourBitZeros",
                 PackQuantized,
                 [](TestTensors& t) {
                   t["m.weight_packed"] = Words({kN, kK / 4});
                 },
                 {"m.weight_zero_point", "wanted shape [8, 2]", "got [4, 2]"}},
          Damage{"PackedTwoBits",
                 PackQuantized,
                 [](TestTensors& t) {
                   t["m.weight_packed"] = Words({kN, kK / 16});
                 },
                 {"m.weight_packed", "2-bit"}},
          Damage{"PackedNvfp4",
                 PackQuantized,
                 [](TestTensors& t) {
                   t["m.weight_packed"] = {"U8", {kN, kK / 2}, std::vector<uint8_t>(kN * kK / 2)};
                 },
                 {"m.weight_packed", "got U8"}},
          Damage{"PackedScaleShape",
                 PackQuantized,
                 [](TestTensors& t) {
                   t["m.weight_scale"].shape = {kK / 128, kN};
                 },
                 {"m.weight_scale", "wanted shape [32, groups]"}},
          Damage{"PackedNanScale",
                 PackQuantized,
                 [](TestTensors& t) { SetHalf(t, "m.weight_scale", 2 * 20 + 1, 0x7FC0); },
                 {"m.weight_scale", "output row 20, group 1"}},
          Damage{"PackedStoredShape",
                 PackQuantized,
                 [](TestTensors& t) { t["m.weight_shape"].bytes[0] = 31; },
                 {"m.weight_shape", "wanted the values [32, 256]", "got [31, 256]"}},
          Damage{"PackedZeroShape",
                 PackQuantized,
                 [](TestTensors& t) {
                   t["m.weight_zero_point"].shape = {2, 4};
                 },
                 {"m.weight_zero_point", "wanted shape [4, 2]"}},
          Damage{"AwqNoZeros",
                 Awq,
                 [](TestTensors& t) { t.erase("m.qzeros"); },
                 {"missing tensor m.qzeros"}},
          Damage{"AwqScaleShape",
                 Awq,
                 [](TestTensors& t) {
                   t["m.scales"].shape = {kN, kK / 128};
                 },
                 {"m.scales"}},
          Damage{"PlainShape",
                 Plain,
                 [](TestTensors& t) {
                   t["m.weight"].shape = {kK, kN};
                 },
                 {"m.weight", "wanted shape [32, 256]", "got [256, 32]"}},
          Damage{"PlainNan",
                 Plain,
                 [](TestTensors& t) { SetHalf(t, "m.weight", kK * 21 + 9, 0x7FC0); },
                 {"m.weight", "wanted finite weights", "row 21, column 9"}},
          Damage{"PlainInfinity",
                 Plain,
                 [](TestTensors& t) { SetHalf(t, "m.weight", kK * kN - 1, 0xFF80); },
                 {"m.weight", "row 31, column 255"}},
          Damage{"PlainDtype",
                 Plain,
                 [](TestTensors& t) {
                   t["m.weight"] = {"F64", {kN, kK}, std::vector<uint8_t>(8 * kN * kK)};
                 },
                 {"m.weight", "got F64"}}};
}

INSTANTIATE_TEST_SUITE_P(Kinds, BadWeights, ::testing::ValuesIn(Damages()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace sheaf
