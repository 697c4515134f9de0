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
    (*checkpoint)->WillNeed(*tensor, 0, tensor->bytes);
    EXPECT_EQ(*(*checkpoint)->ReadAll(*tensor), wanted.bytes);
    std::vector<uint8_t> tail(wanted.bytes.size() - 3);
    ASSERT_TRUE((*checkpoint)->Read(*tensor, 3, tail).ok());
    EXPECT_EQ(tail, std::vector<uint8_t>(wanted.bytes.begin() + 3, wanted.bytes.end()));
  }
  EXPECT_EQ((*checkpoint)->Find("t9"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(OneAndMany, ShardCounts, ::testing::Values(1, 2, 4));

TEST(Checkpoint, NamesTheMissingDirectoryFileOrShard) {
  const TempDir dir;
  EXPECT_THAT(OpenError(dir.path() + "/nowhere"), HasSubstr("nowhere: no such directory"));
  EXPECT_THAT(OpenError(dir.path()), HasSubstr("neither model.safetensors nor"));
  WriteCheckpoint(dir.path(), FourTensors(), 3);
  for (int shard = 0; shard < 3; ++shard)
    std::filesystem::remove(absl::StrFormat("%s/shard-%d.safetensors", dir.path(), shard));
  EXPECT_THAT(OpenError(dir.path()), HasSubstr("shard-0.safetensors: missing shard"));
}

TEST(Checkpoint, RecordsWhatTheIndexNamesAndTheDirectoryLacks) {
  const TempDir dir;
  WriteCheckpoint(dir.path(), FourTensors(), 3);
  std::filesystem::remove(dir.path() + "/shard-1.safetensors");
  WriteFile(dir.path() + "/model.safetensors.index.json",
            R"({"weight_map": {"t0": "shard-0.safetensors", "t1": "shard-1.safetensors",
                               "gone": "shard-2.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->num_shards(), 2u);
  EXPECT_EQ((*checkpoint)->Find("t1"), nullptr);
  ASSERT_NE((*checkpoint)->Find("t2"), nullptr);
  EXPECT_EQ(*(*checkpoint)->ReadAll(*(*checkpoint)->Find("t2")), FourTensors().at("t2").bytes);
  const auto absent = (*checkpoint)->absent_tensors();
  ASSERT_EQ(absent.size(), 2u);
  EXPECT_EQ(absent[0].name, "t1");
  EXPECT_EQ(absent[0].shard, "shard-1.safetensors");
  EXPECT_FALSE(absent[0].shard_exists);
  EXPECT_EQ(absent[1].name, "gone");
  EXPECT_TRUE(absent[1].shard_exists);
}

TEST(Checkpoint, RefusesAnIndexThatContradictsItsShards) {
  const TempDir dir;
  WriteCheckpoint(dir.path(), FourTensors(), 2);
  const std::string index = dir.path() + "/model.safetensors.index.json";
  const auto error_of = [&](const std::string& map) {
    WriteFile(index, "{\"weight_map\":" + map + "}");
    return OpenError(dir.path());
  };
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
