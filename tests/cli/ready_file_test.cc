#include "cli/ready_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace sheaf {
namespace {

TEST(ReadyFile, HoldsAddressesAndProcessIds) {
  const std::string path = testing::TempDir() + "/sheaf_ready_test.json";
  ASSERT_TRUE(WriteReadyFile(path, {.http = "127.0.0.1:8000",
                                    .grpc = "127.0.0.1:50051",
                                    .router_pid = 11,
                                    .workers = {{0, 12}, {1, 13}}})
                  .ok());
  std::ifstream file(path);
  const nlohmann::json json = nlohmann::json::parse(file);
  EXPECT_EQ(json, nlohmann::json::parse(R"({"http": "127.0.0.1:8000", "grpc": "127.0.0.1:50051",
      "router_pid": 11, "workers": [{"id": 0, "pid": 12}, {"id": 1, "pid": 13}]})"));
}

TEST(ReadyFile, AnImpossiblePathIsNamed) {
  const absl::Status status = WriteReadyFile("/nonexistent/folder/ready.json", {});
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("/nonexistent/folder/ready.json"), status.message().npos);
}

}  // namespace
}  // namespace sheaf
