#pragma once
// Writes checkpoint files for tests: safetensors with any tensors, sharded or not, and directories
// that vanish.
//
// Written from the file format alone, without the reader's code. Threads  one. Errors  a failed
// write ends the test.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sheaf::testing {

struct TestTensor {
  std::string dtype;  // "BF16"
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

using TestTensors = std::map<std::string, TestTensor>;

// A directory under the system's temporary one, removed with its files at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void WriteFile(const std::string& path, const std::string& content);

// The bytes of a safetensors file.
std::string SafetensorsBytes(const TestTensors& tensors);
// One around this header text, with `data_bytes` zeros behind it.
std::string SafetensorsWithHeader(const std::string& header, uint64_t data_bytes);

// model.safetensors, or with shards > 1 the shards and their index; tensors go round the shards in
// turn, so that those of one Linear are apart.
void WriteCheckpoint(const std::string& directory, const TestTensors& tensors, int shards = 1);

template <typename T>
std::vector<uint8_t> BytesOf(const std::vector<T>& values) {
  const auto* data = reinterpret_cast<const uint8_t*>(values.data());
  return {data, data + values.size() * sizeof(T)};
}

// A fresh seed a run (SHEAF_TEST_SEED repeats one); print it with SCOPED_TRACE.
uint64_t TestSeed();

}  // namespace sheaf::testing
