// Repacking writes what the target's own tool would have written for the same codes, scales and
// zero points, copies the rest, and leaves nothing behind when it fails. The tools' side is
// tests/model/weight_packers.h.

#include "model/repack/repack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "model/config.h"
#include "nlohmann/json.hpp"
#include "tests/model/checkpoint_writer.h"
#include "tests/model/tiny_model.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

namespace fs = std::filesystem;
using testing::CodedMatrix;
using ::testing::HasSubstr;
using testing::MatrixOptions;
using testing::TempDir;
using testing::TestTensors;

constexpr char kName[] = "model.layers.0.mlp.up_proj";
constexpr RepackFormat kFormats[] = {RepackFormat::kGptq, RepackFormat::kGptqV2,
                                     RepackFormat::kAutoRound, RepackFormat::kCompressedTensors};

TestTensors AsToolWrites(const CodedMatrix& matrix, RepackFormat format,
                         const MatrixOptions& options) {
  switch (format) {
    case RepackFormat::kGptq:
      return testing::PackGptq(matrix, kName, 1, true);
    case RepackFormat::kGptqV2:
      return testing::PackGptq(matrix, kName, 0, true);
    case RepackFormat::kAutoRound:
      return testing::PackGptq(matrix, kName, 1, false);
    case RepackFormat::kCompressedTensors:
      break;
  }
  return testing::PackPackQuantized(matrix, kName, !options.symmetric, options.permuted_groups);
}

nlohmann::json DescriptionOf(RepackFormat format, const MatrixOptions& options) {
  const bool sym = options.symmetric;
  switch (format) {
    case RepackFormat::kGptq:
      return {{"quant_method", "gptq"},
              {"bits", 4},
              {"group_size", options.group_size},
              {"sym", sym},
              {"desc_act", options.permuted_groups}};
    case RepackFormat::kGptqV2:
      return {{"quant_method", "gptq"},
              {"bits", 4},
              {"group_size", options.group_size},
              {"sym", sym},
              {"checkpoint_format", "gptq_v2"}};
    case RepackFormat::kAutoRound:
      return {{"quant_method", "auto-round"},
              {"bits", 4},
              {"group_size", options.group_size},
              {"sym", sym},
              {"packing_format", "auto_round:auto_gptq"}};
    case RepackFormat::kCompressedTensors:
      break;
  }
  return nlohmann::json::parse(
      R"({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups":
          {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int",
           "strategy": "group"}}}})");
}

// Its Linears are 4-bit in every tiny model.
bool IsAttention(const std::string& name) { return name.find("self_attn") != std::string::npos; }

class RepackTest : public ::testing::Test {
 protected:
  // A small model of plain tensors whose one 4-bit Linear is `matrix`.
  void WriteSource(const CodedMatrix& matrix, RepackFormat format, const MatrixOptions& options,
                   int shards = 1) {
    testing::TinyModel model = testing::MakeTinyModel(testing::TinyStorage::kBf16, 2, random_);
    nlohmann::json config = nlohmann::json::parse(model.config_json);
    config["quantization_config"] = DescriptionOf(format, options);
    std::erase_if(model.tensors, [](const auto& entry) {
      return entry.first == std::string(kName) + ".weight" || IsAttention(entry.first);
    });
    plain_ = model.tensors;
    model.config_json = config.dump();
    for (auto& [name, tensor] : AsToolWrites(matrix, format, options)) {
      model.tensors[name] = tensor;
    }
    fs::create_directory(from_);
    model.Write(from_, shards);
    testing::WriteFile(from_ + "/tokenizer.json", "a tokenizer");
    testing::WriteFile(from_ + "/quantize_config.json", config["quantization_config"].dump());
  }

  void ExpectTensors(const std::string& directory, const TestTensors& wanted) {
    const auto checkpoint = Checkpoint::Open(directory);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (const auto& [name, tensor] : wanted) {
      const TensorInfo* got = (*checkpoint)->Find(name);
      ASSERT_NE(got, nullptr) << name;
      EXPECT_EQ(DtypeName(got->dtype), tensor.dtype) << name;
      EXPECT_EQ(got->shape, tensor.shape) << name;
      EXPECT_TRUE(*(*checkpoint)->ReadAll(*got) == tensor.bytes) << name;
    }
    EXPECT_EQ((*checkpoint)->tensors().size(), wanted.size() + plain_.size())
        << "tensors of another format";
  }

  std::vector<std::string> Siblings() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_.path())) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  const uint64_t seed_ = testing::TestSeed();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  TempDir dir_;
  const std::string from_ = dir_.path() + "/from";
  const std::string to_ = dir_.path() + "/to";
  TestTensors plain_;
};

TEST_F(RepackTest, EveryFormatFromEveryFormat) {
  for (const bool symmetric : {true, false}) {
    for (const RepackFormat source : kFormats) {
      for (const RepackFormat target : kFormats) {
        SCOPED_TRACE(::testing::Message()
                     << "symmetric " << symmetric << ", " << int(source) << " -> " << int(target));
        MatrixOptions options;
        options.symmetric = symmetric;
        options.negative_scales = true;
        options.group_size = random_() % 2 == 0 ? 128 : 64;
        options.scale_dtype = random_() % 2 == 0 ? "F16" : "BF16";
        const CodedMatrix matrix = testing::RandomMatrix(40, 384, options, random_);
        fs::remove_all(from_);
        fs::remove_all(to_);
        WriteSource(matrix, source, options, 1 + int(random_() % 3));
        const auto summary = RepackCheckpoint(from_, to_, target);
        ASSERT_TRUE(summary.ok()) << summary.status();
        EXPECT_EQ(summary->quantized_linears, 1);
        EXPECT_EQ(summary->copied_tensors, int(plain_.size()));
        ASSERT_NO_FATAL_FAILURE(ExpectTensors(to_, AsToolWrites(matrix, target, options)));
        const auto copied = Checkpoint::Open(to_);
        for (const auto& [name, tensor] : plain_) {
          ASSERT_TRUE(*(*copied)->ReadAll(*(*copied)->Find(name)) == tensor.bytes) << name;
        }
        const auto config = LoadModelConfig(to_);
        ASSERT_TRUE(config.ok()) << config.status();
        EXPECT_TRUE(fs::exists(to_ + "/tokenizer.json"));
        EXPECT_FALSE(fs::exists(to_ + "/quantize_config.json"));
      }
    }
  }
}

TEST_F(RepackTest, GroupsOutOfOrderSurviveWhereTheFormatCanSayThem) {
  MatrixOptions options;
  options.permuted_groups = true;
  const CodedMatrix matrix = testing::RandomMatrix(24, 256, options, random_);
  WriteSource(matrix, RepackFormat::kGptq, options);
  for (const RepackFormat target :
       {RepackFormat::kGptq, RepackFormat::kGptqV2, RepackFormat::kCompressedTensors}) {
    fs::remove_all(to_);
    ASSERT_TRUE(RepackCheckpoint(from_, to_, target).ok());
    ASSERT_NO_FATAL_FAILURE(ExpectTensors(to_, AsToolWrites(matrix, target, options)));
  }
  fs::remove_all(to_);
  const absl::Status status = RepackCheckpoint(from_, to_, RepackFormat::kAutoRound).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(kName));
  EXPECT_THAT(Siblings(), ::testing::ElementsAre("from"));
}

TEST_F(RepackTest, AnExistingTargetIsLeftAlone) {
  const CodedMatrix matrix = testing::RandomMatrix(16, 128, {}, random_);
  WriteSource(matrix, RepackFormat::kGptq, {});
  testing::WriteFile(to_, "mine");
  const absl::Status status = RepackCheckpoint(from_, to_, RepackFormat::kGptqV2).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr(to_ + ": exists already"));
  EXPECT_EQ(fs::file_size(to_), 4u);
}

TEST_F(RepackTest, WithoutA4BitLinearItSaysSo) {
  testing::TinyModel model = testing::MakeTinyModel(testing::TinyStorage::kBf16, 2, random_);
  std::erase_if(model.tensors, [](const auto& entry) { return IsAttention(entry.first); });
  fs::create_directory(from_);
  model.Write(from_);
  const absl::Status status = RepackCheckpoint(from_, to_, RepackFormat::kGptq).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("no 4-bit Linear"));
}

// Words of 8 bits look like those of a 4-bit matrix with twice the inputs: the model's shapes tell.
TEST_F(RepackTest, EightBitPartsAreRefusedByName) {
  MatrixOptions options;
  options.bits = 8;
  const CodedMatrix matrix = testing::RandomMatrix(256, 128, options, random_);
  for (const RepackFormat source : kFormats) {
    for (const RepackFormat target : kFormats) {
      SCOPED_TRACE(::testing::Message() << int(source) << " -> " << int(target));
      fs::remove_all(from_);
      WriteSource(matrix, source, options);
      const absl::Status status = RepackCheckpoint(from_, to_, target).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(kName));
      EXPECT_THAT(std::string(status.message()), HasSubstr("8-bit weights"));
      EXPECT_FALSE(fs::exists(to_));
    }
  }
}

// A limit on file size stands for the full disk.
// Copied as they are, they would be called unquantized in the new config.
TEST_F(RepackTest, Fp8LinearsAreRefusedByName) {
  const CodedMatrix matrix = testing::RandomMatrix(16, 128, {}, random_);
  WriteSource(matrix, RepackFormat::kGptq, {});
  testing::TestTensors tensors = plain_;
  for (auto& [name, tensor] : AsToolWrites(matrix, RepackFormat::kGptq, {})) tensors[name] = tensor;
  tensors["lm_head.weight"].dtype = "F8_E4M3";
  tensors["lm_head.weight"].bytes.resize(tensors["lm_head.weight"].bytes.size() / 2);
  testing::WriteCheckpoint(from_, tensors);
  const absl::Status status = RepackCheckpoint(from_, to_, RepackFormat::kGptqV2).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("lm_head.weight"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("FP8"));
  EXPECT_THAT(Siblings(), ::testing::ElementsAre("from"));
}

TEST_F(RepackTest, AFullDiskLeavesNothing) {
  const CodedMatrix matrix = testing::RandomMatrix(64, 1024, {}, random_);
  WriteSource(matrix, RepackFormat::kGptq, {});
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{16 * 1024, before.rlim_max};
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const absl::Status status = RepackCheckpoint(from_, to_, RepackFormat::kGptqV2).status();
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors"));
  EXPECT_THAT(Siblings(), ::testing::ElementsAre("from"));
}

}  // namespace
}  // namespace sheaf
