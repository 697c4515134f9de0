#include "cli/process/ready_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace sheaf {
namespace {

using nlohmann::json;

class ReadyFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directory(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  json Read() const {
    std::ifstream file(path_);
    return json::parse(file);
  }

  const std::string directory_ = testing::TempDir() + "/sheaf_ready_test";
  const std::string path_ = directory_ + "/ready.json";
};

TEST_F(ReadyFileTest, HoldsAddressesAndProcessIds) {
  const auto file = ReadyFile::Claim(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)
                  ->Write({.http = "127.0.0.1:8000",
                           .grpc = "127.0.0.1:50051",
                           .cluster = "[::1]:50052",
                           .router_pid = 11,
                           .workers = {{0, 12}, {1, 13}}})
                  .ok());
  EXPECT_EQ(Read(), json::parse(R"({"http": "127.0.0.1:8000", "grpc": "127.0.0.1:50051",
      "cluster": "[::1]:50052", "router_pid": 11,
      "workers": [{"id": 0, "pid": 12}, {"id": 1, "pid": 13}]})"));
}

TEST_F(ReadyFileTest, NothingIsLeftAtTheEnd) {
  {
    const auto file = ReadyFile::Claim(path_);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->Write({}).ok());
    ASSERT_TRUE(std::filesystem::exists(path_));
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(ReadyFileTest, ASecondServerIsRefusedWhileTheFirstLives) {
  auto first = ReadyFile::Claim(path_);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE((*first)->Write({.router_pid = 11}).ok());
  const auto second = ReadyFile::Claim(path_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find(path_), absl::string_view::npos);
  EXPECT_EQ(Read()["router_pid"], 11);
  first->reset();
  EXPECT_TRUE(ReadyFile::Claim(path_).ok());
}

TEST_F(ReadyFileTest, WhatAKilledServerLeftIsRemoved) {
  std::ofstream(path_) << "{}";
  std::ofstream(path_ + ".lock") << "";
  const auto file = ReadyFile::Claim(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ReadyFileTest, AFailedRewriteLeavesTheFileAsItWas) {
  const auto file = ReadyFile::Claim(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Write({.router_pid = 11}).ok());
  std::filesystem::create_symlink("/dev/full", path_ + ".part");  // a full disk
  const absl::Status failed = (*file)->Write({.router_pid = 12});
  EXPECT_NE(failed.message().find(path_), absl::string_view::npos) << failed;
  EXPECT_EQ(Read()["router_pid"], 11);
  std::filesystem::remove(path_ + ".part");
  EXPECT_TRUE((*file)->Write({.router_pid = 12}).ok());
  EXPECT_EQ(Read()["router_pid"], 12);
}

TEST(ReadyFile, AnImpossiblePathIsNamed) {
  const auto file = ReadyFile::Claim("/nonexistent/folder/ready.json");
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.status().message().find("/nonexistent/folder/ready.json"),
            absl::string_view::npos);
}

}  // namespace
}  // namespace sheaf
