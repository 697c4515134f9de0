#include "tests/model/checkpoint_writer.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sheaf::testing {
namespace {

std::string ShapeJson(const std::vector<int64_t>& shape) {
  return absl::StrFormat("[%s]", absl::StrJoin(shape, ","));
}

}  // namespace

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "sheaf_model_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "cannot make " << name;
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!file.flush()) ADD_FAILURE() << "cannot write " << path;
}

std::string SafetensorsWithHeader(const std::string& header, uint64_t data_bytes) {
  std::string out(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(out.data(), &length, sizeof(length));
  return out + header + std::string(data_bytes, '\0');
}

std::string SafetensorsBytes(const TestTensors& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}", data;
  for (const auto& [name, tensor] : tensors) {
    header += absl::StrFormat(R"(,"%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]})", name,
                              tensor.dtype, ShapeJson(tensor.shape), data.size(),
                              data.size() + tensor.bytes.size());
    data.append(tensor.bytes.begin(), tensor.bytes.end());
  }
  return SafetensorsWithHeader(header + "}", 0) + data;
}

void WriteCheckpoint(const std::string& directory, const TestTensors& tensors, int shards) {
  if (shards == 1) return WriteFile(directory + "/model.safetensors", SafetensorsBytes(tensors));
  std::vector<TestTensors> parts(static_cast<size_t>(shards));
  std::string map;
  size_t turn = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t shard = turn++ % parts.size();
    parts[shard].emplace(name, tensor);
    map += absl::StrFormat(R"(%s"%s":"shard-%d.safetensors")", map.empty() ? "" : ",", name, shard);
  }
  for (size_t shard = 0; shard < parts.size(); ++shard) {
    WriteFile(absl::StrFormat("%s/shard-%d.safetensors", directory, shard),
              SafetensorsBytes(parts[shard]));
  }
  WriteFile(directory + "/model.safetensors.index.json",
            "{\"metadata\":{},\"weight_map\":{" + map + "}}");
}

uint64_t TestSeed() {
  if (const char* seed = std::getenv("SHEAF_TEST_SEED")) return std::strtoull(seed, nullptr, 10);
  return std::random_device{}();
}

}  // namespace sheaf::testing
