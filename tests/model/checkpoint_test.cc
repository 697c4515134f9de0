// A checkpoint directory: one file or shards with an index, and what happens when they do not fit
// together.

#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_format.h"
#include "tests/model/checkpoint_writer.h"

namespace sheaf {
namespace {

using ::testing::AllOf;
using testing::BytesOf;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::TestTensors;
using testing::WriteCheckpoint;
using testing::WriteFile;

TestTensors FourTensors() {
  TestTensors tensors;
  for (int i = 0; i < 4; ++i) {
    const std::vector<float> values(static_cast<size_t>(i) + 1, static_cast<float>(i));
    tensors[absl::StrFormat("t%d", i)] = {"F32", {i + 1}, BytesOf(values)};
  }
  return tensors;
}

std::string OpenError(const std::string& directory) {
  const auto checkpoint = Checkpoint::Open(directory);
  return checkpoint.ok() ? "opened" : std::string(checkpoint.status().message());
}

class ShardCounts : public ::testing::TestWithParam<int> {};

TEST_P(ShardCounts, EveryTensorIsFoundWithItsBytes) {
  const TempDir dir;
  WriteCheckpoint(dir.path(), FourTensors(), GetParam());
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->num_shards(), static_cast<size_t>(GetParam()));
  EXPECT_EQ((*checkpoint)->tensors().size(), 4u);
  for (const auto& [name, wanted] : FourTensors()) {
    const TensorInfo* const tensor = (*checkpoint)->Find(name);
    ASSERT_NE(tensor, nullptr) << name;
    const auto read = [&] {
      const auto bytes = (*checkpoint)->Bytes(*tensor);
      return std::vector<uint8_t>(bytes.begin(), bytes.end());
    };
    EXPECT_EQ(read(), wanted.bytes);
    (*checkpoint)->WillNeed(*tensor);
    (*checkpoint)->DropMapping(*tensor);
    EXPECT_EQ(read(), wanted.bytes) << "after its pages were dropped";
  }
  EXPECT_EQ((*checkpoint)->Find("t9"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(OneAndMany, ShardCounts, ::testing::Values(1, 2, 4));

TEST(Checkpoint, NamesTheMissingDirectoryFileOrShard) {
  const TempDir dir;
  EXPECT_THAT(OpenError(dir.path() + "/nowhere"), HasSubstr("nowhere: no such directory"));
  EXPECT_THAT(OpenError(dir.path()), HasSubstr("neither model.safetensors nor"));
  WriteCheckpoint(dir.path(), FourTensors(), 3);
  std::filesystem::remove(dir.path() + "/shard-1.safetensors");
  EXPECT_THAT(OpenError(dir.path()), HasSubstr("shard-1.safetensors: missing shard"));
}

TEST(Checkpoint, RefusesAnIndexThatContradictsItsShards) {
  const TempDir dir;
  WriteCheckpoint(dir.path(), FourTensors(), 2);
  const std::string index = dir.path() + "/model.safetensors.index.json";
  const auto error_of = [&](const std::string& map) {
    WriteFile(index, "{\"weight_map\":" + map + "}");
    return OpenError(dir.path());
  };
  EXPECT_THAT(error_of("{\"t0\":\"shard-0.safetensors\",\"gone\":\"shard-0.safetensors\"}"),
              AllOf(HasSubstr("tensor gone"), HasSubstr("wanted in shard shard-0.safetensors")));
  EXPECT_THAT(error_of("{\"t0\":\"shard-1.safetensors\",\"t2\":\"shard-0.safetensors\"}"),
              AllOf(HasSubstr("tensor t0"), HasSubstr("wanted in shard shard-1.safetensors"),
                    HasSubstr("shard-0.safetensors")));
  EXPECT_THAT(error_of("{\"t0\":\"../x.safetensors\"}"), HasSubstr("not the name of a file"));
  EXPECT_THAT(error_of("{\"t0\":7}"), HasSubstr("not the name of a file"));
  EXPECT_THAT(error_of("[]"), HasSubstr("no \"weight_map\""));
  WriteFile(index, "{");
  EXPECT_THAT(OpenError(dir.path()), HasSubstr("not JSON"));
}

TEST(Checkpoint, RefusesATensorInTwoShards) {
  const TempDir dir;
  WriteCheckpoint(dir.path(), FourTensors(), 2);
  std::filesystem::copy_file(dir.path() + "/shard-0.safetensors",
                             dir.path() + "/shard-1.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(OpenError(dir.path()),
              AllOf(HasSubstr("is in two shards"), HasSubstr("shard-0"), HasSubstr("shard-1")));
}

TEST(Checkpoint, RefusesATruncatedFile) {
  const TempDir dir;
  WriteCheckpoint(dir.path(), FourTensors());
  const std::string file = dir.path() + "/model.safetensors";
  const auto size = std::filesystem::file_size(file);
  std::filesystem::resize_file(file, size - 1);
  EXPECT_THAT(OpenError(dir.path()),
              AllOf(HasSubstr("model.safetensors: tensor t3"), HasSubstr("outside the file")));
  std::filesystem::resize_file(file, 20);
  EXPECT_THAT(OpenError(dir.path()), HasSubstr("header length"));
  std::filesystem::resize_file(file, 0);
  EXPECT_THAT(OpenError(dir.path()), HasSubstr("too short"));
}

}  // namespace
}  // namespace sheaf
