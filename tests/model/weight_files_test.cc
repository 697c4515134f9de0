// Which files of a directory are the model's, as publishers name them, and what is said where that
// cannot be told.

#include "model/files/weight_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_format.h"
#include "model/absent_tensors.h"
#include "model/decoder_weights.h"
#include "model/inspect/inspect.h"
#include "tests/model/tiny_model.h"

namespace sheaf {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeTinyModel;
using testing::TempDir;
using testing::TestSeed;
using testing::TinyModel;
using testing::TinyStorage;

WeightFiles Chosen(std::vector<std::string> names) {
  const auto files = ChooseWeightFiles(std::move(names), "dir");
  EXPECT_TRUE(files.ok()) << files.status();
  return files.value_or(WeightFiles{});
}

std::string Refusal(std::vector<std::string> names) {
  const auto files = ChooseWeightFiles(std::move(names), "dir");
  return files.ok() ? "chosen" : std::string(files.status().message());
}

TEST(WeightFiles, NumberedShardsWithoutAnIndexAreAllTaken) {
  EXPECT_THAT(
      Chosen({"model-00003-of-00003.safetensors", "config.json", "model-00001-of-00003.safetensors",
              "model-00002-of-00003.safetensors"})
          .numbered,
      ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                  "model-00003-of-00003.safetensors"));
}

TEST(WeightFiles, AGapInTheNumbersNamesTheMissingFile) {
  EXPECT_THAT(Refusal({"model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"}),
              HasSubstr("dir/model-00002-of-00003.safetensors: missing shard"));
  EXPECT_THAT(Refusal({"gptq_model-4bit-128g-00002-of-00002.safetensors"}),
              HasSubstr("dir/gptq_model-4bit-128g-00001-of-00002.safetensors: missing shard"));
  EXPECT_THAT(Refusal({"model-00001-of-00002.safetensors", "model-00001-of-00003.safetensors"}),
              AllOf(HasSubstr("model-00001-of-00002"), HasSubstr("model-00001-of-00003")));
  EXPECT_THAT(Refusal({"model-00001-of-00001.safetensors", "model-00007-of-00001.safetensors"}),
              HasSubstr("model-00007-of-00001.safetensors: wanted a number of 1 to 1"));
}

TEST(WeightFiles, AutoGptqNamesAreFound) {
  EXPECT_EQ(Chosen({"gptq_model-4bit-128g.safetensors", "quant_log.csv"}).whole,
            "gptq_model-4bit-128g.safetensors");
  EXPECT_EQ(Chosen({"gptq_model-4bit-128g-00001-of-00002.safetensors",
                    "gptq_model-4bit-128g-00002-of-00002.safetensors"})
                .numbered.size(),
            2u);
  const WeightFiles indexed = Chosen({"gptq_model-4bit-128g-00001-of-00002.safetensors",
                                      "gptq_model-4bit-128g-00002-of-00002.safetensors",
                                      "gptq_model-4bit-128g.safetensors.index.json"});
  EXPECT_EQ(indexed.index, "gptq_model-4bit-128g.safetensors.index.json");
  EXPECT_THAT(indexed.numbered, IsEmpty());
}

TEST(WeightFiles, TheOnlyFileIsTakenWhateverItsName) {
  EXPECT_EQ(Chosen({"weights.safetensors", "README.md"}).whole, "weights.safetensors");
  EXPECT_EQ(Chosen({"consolidated.safetensors"}).whole, "consolidated.safetensors");
}

TEST(WeightFiles, TwoCandidatesAreNamed) {
  EXPECT_THAT(Refusal({"b.safetensors", "a.safetensors"}),
              AllOf(HasSubstr("a.safetensors"), HasSubstr("b.safetensors")));
  EXPECT_THAT(Refusal({"a.safetensors.index.json", "b.safetensors.index.json"}),
              AllOf(HasSubstr("a.safetensors.index.json"), HasSubstr("b.safetensors.index.json")));
}

TEST(WeightFiles, FilesBesideTheModelDoNoHarm) {
  EXPECT_EQ(Chosen({"model.safetensors", "mtp.safetensors", "consolidated.safetensors",
                    "other.safetensors", "other.safetensors.index.json"})
                .whole,
            "model.safetensors");
  EXPECT_EQ(Chosen({"gptq_model-4bit-128g.safetensors", "mtp.safetensors", "quant_log.csv"}).whole,
            "gptq_model-4bit-128g.safetensors");
  EXPECT_EQ(Chosen({"x-00001-of-00001.safetensors", "consolidated-00001-of-00001.safetensors"})
                .numbered.size(),
            1u);
}

TEST(WeightFiles, AnEmptyDirectoryIsSaid) {
  EXPECT_THAT(Refusal({"config.json"}), HasSubstr("dir: neither model.safetensors nor"));
}

class PublishedDirectory : public ::testing::Test {
 protected:
  // A checkpoint in three shards with an index, under the names of the writer.
  void Write() {
    model_.Write(dir_.path(), 3);
  }
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  void Rename(const std::string& from, const std::string& to) { fs::rename(Path(from), Path(to)); }

  absl::Status Load() {
    auto checkpoint = Checkpoint::Open(dir_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    return DecoderWeights::Load(**checkpoint, model_.config, WholeModel(model_.config), pool_,
                                nullptr)
        .status();
  }

  std::mt19937_64 random_{TestSeed()};
  TempDir dir_;
  ThreadPool pool_{2};
  TinyModel model_ = MakeTinyModel(TinyStorage::kGptq, 4, random_);
};

TEST_F(PublishedDirectory, ShardsWithoutAnIndexLoad) {
  Write();
  fs::remove(Path("model.safetensors.index.json"));
  for (int i = 0; i < 3; ++i) {
    Rename(absl::StrFormat("shard-%d.safetensors", i),
           absl::StrFormat("gptq_model-4bit-128g-%05d-of-00003.safetensors", i + 1));
  }
  EXPECT_TRUE(Load().ok()) << Load();
  fs::remove(Path("gptq_model-4bit-128g-00002-of-00003.safetensors"));
  EXPECT_THAT(std::string(Load().message()),
              HasSubstr("gptq_model-4bit-128g-00002-of-00003.safetensors: missing shard"));
}

TEST_F(PublishedDirectory, AnIndexOfAnotherStemLoads) {
  Write();
  Rename("model.safetensors.index.json", "gptq_model-4bit-128g.safetensors.index.json");
  testing::WriteFile(Path("mtp.safetensors"), "never opened");
  EXPECT_TRUE(Load().ok()) << Load();
}

TEST_F(PublishedDirectory, AWholeFileGoesBeforeAnIndexThatDoesNotNameIt) {
  Write();
  testing::WriteFile(Path("model.safetensors.index.json"),
                     R"({"weight_map": {"a": "gone-1.safetensors"}})");
  model_.Write(dir_.path(), 1);
  EXPECT_TRUE(Load().ok()) << Load();
  EXPECT_THAT((*Checkpoint::Open(dir_.path()))->remarks(),
              ElementsAre(AllOf(HasSubstr("model.safetensors.index.json: not read"))));
}

TEST_F(PublishedDirectory, AWholeFileThatTheIndexNamesIsOneOfItsShards) {
  model_.Write(dir_.path(), 1);
  testing::WriteFile(Path("model.safetensors.index.json"),
                     R"({"weight_map": {"model.norm.weight": "model.safetensors",
                                        "mtp.a": "extra.safetensors"}})");
  testing::WriteFile(Path("extra.safetensors"),
                     testing::SafetensorsBytes({{"mtp.a", {"F32", {1}, {0, 0, 0, 0}}}}));
  const auto checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_NE((*checkpoint)->Find("mtp.a"), nullptr);
  EXPECT_THAT((*checkpoint)->remarks(), IsEmpty());
}

// An index that names one more tensor, in a shard of this name.
void NameInIndex(const std::string& directory, const std::string& tensor,
                 const std::string& shard) {
  testing::WriteFile(
      directory + "/model.safetensors.index.json",
      absl::StrFormat(R"({"weight_map": {"model.norm.weight": "model.safetensors", "%s": "%s"}})",
                      tensor, shard));
}

TEST_F(PublishedDirectory, AbsentMtpTensorsAreARemark) {
  model_.Write(dir_.path(), 1);
  testing::WriteFile(Path("config.json"), model_.config_json);
  for (const char* tensor : {"model.layers.3.mlp.experts.0.up_proj.weight", "mtp.layers.0.w",
                             "model.mtp.head.weight"}) {
    for (const char* shard : {"mtp.safetensors", "model-00009-of-00009.safetensors",
                              "model.safetensors"}) {
      NameInIndex(dir_.path(), tensor, shard);
      EXPECT_TRUE(Load().ok()) << Load();
      const InspectReport report = InspectCheckpoint(dir_.path(), 1);
      EXPECT_EQ(report.refusal, "");
      EXPECT_THAT(report.disagreements,
                  Contains(AllOf(HasSubstr("model.safetensors.index.json: 1 tensors"),
                                 HasSubstr("should be in " + std::string(shard)))));
    }
  }
  NameInIndex(dir_.path(), "some.head", "mtp.safetensors");
  EXPECT_TRUE(Load().ok()) << Load();
}

TEST_F(PublishedDirectory, AnAbsentShardOfTheModelIsAnErrorThatNamesItAndTheIndex) {
  model_.Write(dir_.path(), 1);
  testing::WriteFile(Path("config.json"), model_.config_json);
  for (const char* tensor : {"model.layers.2.self_attn.o_proj.bias", "lm_head.bias", "visual.a"}) {
    NameInIndex(dir_.path(), tensor, "model-00009-of-00009.safetensors");
    const auto wanted = AllOf(HasSubstr("model-00009-of-00009.safetensors: missing shard"),
                              HasSubstr("model.safetensors.index.json names it"),
                              HasSubstr(tensor));
    EXPECT_THAT(std::string(Load().message()), wanted);
    EXPECT_THAT(InspectCheckpoint(dir_.path(), 1).refusal, wanted);
    const auto slice = ExpertSlice::Load(**Checkpoint::Open(dir_.path()), model_.config, {}, pool_,
                                         nullptr);
    EXPECT_THAT(std::string(slice.status().message()), wanted) << "a worker";
    NameInIndex(dir_.path(), tensor, "model.safetensors");
    EXPECT_THAT(std::string(Load().message()),
                AllOf(HasSubstr(absl::StrFormat("tensor %s", tensor)),
                      HasSubstr("wanted in shard model.safetensors")));
  }
}

}  // namespace
}  // namespace sheaf
