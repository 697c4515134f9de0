#include "router/schedule/blocks/block_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <list>
#include <map>
#include <random>

#include "router/schedule/blocks/block_checksum.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

constexpr size_t kBlock = 1000;
using Bytes = std::vector<uint8_t>;

BlockHash Name(uint64_t number) { return {{number, number * 77}}; }

// A block's bytes in three pieces, as the planes of a cache.
class Block {
 public:
  explicit Block(uint8_t byte = 0) : bytes_(kBlock) {
    for (size_t i = 0; i < kBlock; ++i) bytes_[i] = static_cast<uint8_t>(byte + i * 7);
  }
  std::vector<std::span<uint8_t>> pieces() {
    const std::span<uint8_t> all(bytes_);
    return {all.first(600), all.subspan(600, 399), all.last(1)};
  }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

// The file without a name that this process has open in `directory`.
std::string OpenFileIn(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    if (target.starts_with(directory + "/") && target.ends_with(" (deleted)"))
      return entry.path().string();
  }
  ADD_FAILURE() << "no open file in " << directory;
  return {};
}

class BlockStoreTest : public ::testing::TestWithParam<bool> {
 protected:
  BlockStoreTest() {
    std::string name = ::testing::TempDir() + "sheaf-store-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~BlockStoreTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<BlockStore> Make(uint64_t bytes) {
    auto store = BlockStore::Create({bytes, GetParam() ? directory_ : "", kBlock});
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  static void Put(BlockStore& store, uint64_t name) {
    store.Put(Name(name), Block(static_cast<uint8_t>(name)).pieces());
  }
  static void ExpectHas(BlockStore& store, uint64_t name) {
    Block got;
    ASSERT_TRUE(store.Get(Name(name), got.pieces())) << name;
    EXPECT_EQ(got.bytes(), Block(static_cast<uint8_t>(name)).bytes()) << name;
  }

  std::string directory_;
};

TEST_P(BlockStoreTest, GivesBackWhatWasPut) {
  const auto store = Make(10 * kBlock + 999);
  EXPECT_EQ(store->capacity(), 10);
  Block got;
  EXPECT_FALSE(store->Get(Name(1), got.pieces()));
  for (uint64_t name = 1; name <= 3; ++name) Put(*store, name);
  for (uint64_t name = 3; name >= 1; --name) ExpectHas(*store, name);
  EXPECT_EQ(store->size(), 3);
  store->Clear();
  EXPECT_EQ(store->size(), 0);
  EXPECT_FALSE(store->Has(Name(1)));
  EXPECT_EQ(store->num_failed(), 0);
  EXPECT_TRUE(store->TakeRemark().ok());
}

TEST_P(BlockStoreTest, WhenFullTheOneUsedLongestAgoGoes) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto store = Make(7 * kBlock);
  std::list<uint64_t> model;  // the one used longest ago first
  for (int round = 0; round < 2000; ++round) {
    const uint64_t name = random() % 15;
    const auto place = std::find(model.begin(), model.end(), name);
    ASSERT_EQ(store->Has(Name(name)), place != model.end());
    if (place != model.end()) {
      ExpectHas(*store, name);
      model.splice(model.end(), model, place);
    } else {
      Put(*store, name);
      if (model.size() == 7) model.pop_front();
      model.push_back(name);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(MemoryAndFile, BlockStoreTest, ::testing::Bool(),
                         [](const auto& at) { return at.param ? "File" : "Memory"; });

class BlockFile : public BlockStoreTest {};
INSTANTIATE_TEST_SUITE_P(File, BlockFile, ::testing::Values(true));

TEST_P(BlockFile, IsPrivateNamelessAndReserved) {
  const auto store = Make(100 * kBlock);
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
  struct stat info{};
  ASSERT_EQ(stat(OpenFileIn(directory_).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(info.st_size, static_cast<off_t>(100 * kBlock));
  EXPECT_GE(info.st_blocks * 512, static_cast<off_t>(100 * kBlock)) << "room is reserved";
}

TEST_P(BlockFile, AFlippedBitIsAMiss) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto store = Make(2 * kBlock);
  const int file = open(OpenFileIn(directory_).c_str(), O_RDWR);
  ASSERT_GE(file, 0);
  for (int round = 0; round < 100; ++round) {
    Put(*store, 1);
    Put(*store, 2);
    // Which of the two slots is whose is the store's business: one of them is hit.
    const auto place = static_cast<off_t>(random() % (2 * kBlock));
    uint8_t byte;
    ASSERT_EQ(pread(file, &byte, 1, place), 1);
    byte ^= static_cast<uint8_t>(1u << (random() % 8));
    ASSERT_EQ(pwrite(file, &byte, 1, place), 1);
    int misses = 0;
    for (uint64_t name : {1, 2}) {
      Block got;
      if (store->Get(Name(name), got.pieces())) {
        EXPECT_EQ(got.bytes(), Block(static_cast<uint8_t>(name)).bytes());
      } else {
        ++misses;
        EXPECT_FALSE(store->Has(Name(name)));
      }
    }
    EXPECT_EQ(misses, 1) << "place " << place;
    store->Clear();
  }
  close(file);
  EXPECT_EQ(store->num_failed(), 100);
  const absl::Status remark = store->TakeRemark();
  EXPECT_THAT(std::string(remark.message()), HasSubstr("not what was written"));
  EXPECT_TRUE(store->TakeRemark().ok()) << "said once";
}

TEST_P(BlockFile, AFileThatEndsEarlyIsAMiss) {
  const auto store = Make(2 * kBlock);
  Put(*store, 1);
  ASSERT_EQ(truncate(OpenFileIn(directory_).c_str(), kBlock / 2), 0);
  Block got;
  EXPECT_FALSE(store->Get(Name(1), got.pieces()));
  EXPECT_THAT(std::string(store->TakeRemark().message()), HasSubstr("the file ends"));
  Put(*store, 1);
  ExpectHas(*store, 1);
}

// Memory whose calls fail when told to.
class FailingSlots final : public SlotMemory {
 public:
  explicit FailingSlots(const bool& fails) : fails_(fails) {}
  absl::Status Write(int64_t slot, std::span<const std::span<uint8_t>> pieces) override {
    if (fails_) return absl::UnavailableError("no space left on device");
    Bytes& bytes = slots_[slot];
    bytes.clear();
    for (const auto& piece : pieces) bytes.insert(bytes.end(), piece.begin(), piece.end());
    return absl::OkStatus();
  }
  absl::Status Read(int64_t slot, std::span<const std::span<uint8_t>> pieces) override {
    if (fails_) return absl::UnavailableError("input/output error");
    const uint8_t* from = slots_.at(slot).data();
    for (const auto& piece : pieces) {
      std::copy_n(from, piece.size(), piece.data());
      from += piece.size();
    }
    return absl::OkStatus();
  }

 private:
  const bool& fails_;
  std::map<int64_t, Bytes> slots_;
};

TEST(BlockStore, ErrorsOfTheMemoryAreMissesAndRemarks) {
  bool fails = false;
  BlockStore store(std::make_unique<FailingSlots>(fails), 2);
  store.Put(Name(1), Block(1).pieces());
  fails = true;
  Block got;
  EXPECT_FALSE(store.Get(Name(1), got.pieces()));
  EXPECT_EQ(store.TakeRemark(), absl::UnavailableError("input/output error"));
  EXPECT_FALSE(store.Has(Name(1)));
  for (uint64_t name = 2; name < 9; ++name) store.Put(Name(name), Block(1).pieces());
  EXPECT_EQ(store.size(), 0);
  EXPECT_EQ(store.TakeRemark(), absl::UnavailableError("no space left on device"));
  EXPECT_EQ(store.num_failed(), 8);
  fails = false;
  for (uint64_t name = 2; name < 9; ++name) {
    store.Put(Name(name), Block(static_cast<uint8_t>(name)).pieces());
    EXPECT_TRUE(store.Get(Name(name), got.pieces()));
    EXPECT_EQ(got.bytes(), Block(static_cast<uint8_t>(name)).bytes());
  }
  EXPECT_EQ(store.size(), 2) << "failures cost no slot";
}

TEST(BlockStore, RefusesWhatCannotBe) {
  const absl::Status small = BlockStore::Create({kBlock - 1, "", kBlock}).status();
  EXPECT_EQ(small.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(small.message()), HasSubstr("wanted at least 1000 bytes"));
  const absl::Status nowhere =
      BlockStore::Create({10 * kBlock, "/nowhere/at/all", kBlock}).status();
  EXPECT_EQ(nowhere.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(nowhere.message()), HasSubstr("/nowhere/at/all"));
  const absl::Status much =
      BlockStore::Create({uint64_t{1} << 60, ::testing::TempDir(), kBlock}).status();
  EXPECT_EQ(much.code(), absl::StatusCode::kResourceExhausted) << much;
}

TEST(BlockChecksum, NoticesEveryFlippedBitAndTheSeed) {
  Bytes bytes(200);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * i);
  const auto sum = [&](uint64_t seed, size_t cut) {
    BlockChecksum checksum(seed);
    checksum.Add(std::span(bytes).first(cut));
    checksum.Add(std::span(bytes).subspan(cut));
    return checksum.sum();
  };
  for (const size_t cut : {0, 1, 32, 71, 200}) {
    const uint64_t whole = sum(5, cut);
    EXPECT_EQ(sum(5, cut), whole);
    EXPECT_NE(sum(6, cut), whole);
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
      EXPECT_NE(sum(5, cut), whole) << "bit " << bit;
      bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    }
  }
}

}  // namespace
}  // namespace sheaf
