// The digest of a checkpoint: equal for copies, different for whatever else could pass as the same.

#include "model/files/checkpoint_digest.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "absl/strings/str_format.h"
#include "tests/model/checkpoint_writer.h"
#include "tests/model/tiny_model.h"

namespace sheaf {
namespace {

using testing::TempDir;
using testing::TestSeed;
using testing::WriteFile;

uint64_t DigestOf(const std::string& directory) {
  const auto checkpoint = Checkpoint::Open(directory);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto digest = CheckpointDigest(**checkpoint);
  EXPECT_TRUE(digest.ok()) << digest.status();
  return *digest;
}

constexpr uint64_t kDataBytes = 300 << 20;

// A shard of 300 MiB of zeros that takes no room on the disk.
void WriteBigShard(const std::string& path, const std::string& tensor) {
  const std::string header =
      absl::StrFormat(R"({"%s":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}})", tensor,
                      kDataBytes, kDataBytes);
  WriteFile(path, testing::SafetensorsWithHeader(header, 0));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) + kDataBytes);
}

void SetByte(const std::string& path, uint64_t from_end, char value) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-static_cast<std::streamoff>(from_end), std::ios::end);
  file.put(value);
  ASSERT_TRUE(file.flush());
}

class CheckpointDigestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteFile(dir_.path() + "/config.json", "{}");
    WriteBigShard(Shard(), "a");
    before_ = DigestOf(dir_.path());
  }
  std::string Shard() const { return dir_.path() + "/model.safetensors"; }

  const TempDir dir_;
  uint64_t before_ = 0;
};

TEST_F(CheckpointDigestTest, ACopyUnderOtherNamesIsTheSame) {
  const TempDir copy;
  std::filesystem::copy_file(dir_.path() + "/config.json", copy.path() + "/config.json");
  std::filesystem::create_symlink(Shard(), copy.path() + "/weights.safetensors");
  EXPECT_EQ(DigestOf(copy.path()), before_);
}

TEST_F(CheckpointDigestTest, SampledBytesCountFromTheFirstToTheLast) {
  // The blocks begin a 63rd of (data - 4096) apart; the last byte of the file is in the last one.
  for (const uint64_t from_end :
       {kDataBytes, kDataBytes - 4095, uint64_t{1}, uint64_t{4096},
        kDataBytes - (kDataBytes - 4096) / 63 * 31 - (kDataBytes - 4096) % 63 * 31 / 63}) {
    SetByte(Shard(), from_end, 1);
    EXPECT_NE(DigestOf(dir_.path()), before_) << from_end;
    SetByte(Shard(), from_end, 0);
    EXPECT_EQ(DigestOf(dir_.path()), before_) << from_end;
  }
}

TEST_F(CheckpointDigestTest, AnotherHeaderOrSizeDiffers) {
  WriteBigShard(Shard(), "b");
  EXPECT_NE(DigestOf(dir_.path()), before_);
}

TEST_F(CheckpointDigestTest, AnotherConfigDiffers) {
  WriteFile(dir_.path() + "/config.json", "{ }");
  EXPECT_NE(DigestOf(dir_.path()), before_);
  WriteFile(dir_.path() + "/config.json", "{}");
  EXPECT_EQ(DigestOf(dir_.path()), before_);
  WriteFile(dir_.path() + "/quantize_config.json", "{}");
  EXPECT_NE(DigestOf(dir_.path()), before_);
}

TEST_F(CheckpointDigestTest, ShardsCountInAnyOrder) {
  const TempDir one, other, third;
  const auto write = [](const TempDir& dir, const char* first, const char* second) {
    WriteFile(dir.path() + "/config.json", "{}");
    WriteBigShard(dir.path() + "/model-00001-of-00002.safetensors", first);
    WriteBigShard(dir.path() + "/model-00002-of-00002.safetensors", second);
  };
  write(one, "a", "b");
  write(other, "b", "a");
  write(third, "b", "c");
  EXPECT_EQ(DigestOf(one.path()), DigestOf(other.path()));
  EXPECT_NE(DigestOf(one.path()), DigestOf(third.path()));
  EXPECT_NE(DigestOf(one.path()), before_);
}

TEST_F(CheckpointDigestTest, AShardThatShrankIsNamed) {
  const auto checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::filesystem::resize_file(Shard(), 4096);
  const auto digest = CheckpointDigest(**checkpoint);
  EXPECT_EQ(digest.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(digest.status().message().find("model.safetensors"), absl::string_view::npos);
}

TEST(CheckpointDigest, OtherWeightsAndOtherFormatsOfTheSameConfigDiffer) {
  std::mt19937_64 random(TestSeed());
  const auto digest = [&](testing::TinyStorage storage) {
    const TempDir dir;
    testing::MakeTinyModel(storage, 4, random).Write(dir.path());
    WriteFile(dir.path() + "/config.json", "{}");
    return DigestOf(dir.path());
  };
  const uint64_t gptq = digest(testing::TinyStorage::kGptq);
  EXPECT_NE(gptq, digest(testing::TinyStorage::kPackQuantized));
  EXPECT_NE(gptq, digest(testing::TinyStorage::kGptq));  // other random weights
}

// By hand: SHEAF_DIGEST_DIR=checkpoint model_test --gtest_filter='*DigestOfADirectory'
TEST(CheckpointDigest, DigestOfADirectory) {
  const char* const directory = std::getenv("SHEAF_DIGEST_DIR");
  if (directory == nullptr) GTEST_SKIP() << "SHEAF_DIGEST_DIR is not set";
  const auto begin = std::chrono::steady_clock::now();
  const uint64_t digest = DigestOf(directory);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%016llx in %.3f s\n", static_cast<unsigned long long>(digest), took.count());
}

}  // namespace
}  // namespace sheaf
