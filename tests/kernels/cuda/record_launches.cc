// record_launches FILE: runs small batches of experts in the emulator and writes every launch with
// all device memory before and after it: what the PTX of the same kernels must do (ptx_test.py).
//
//   launch KERNEL BLOCKS THREADS SHARED_BYTES ARGUMENTS SEGMENTS \n
//   ARGUMENTS times:  argument BYTES \n, the bytes        SEGMENTS times:  segment ADDRESS BYTES
//                     \n, the bytes before, the bytes after
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/emulation/launch_emulated.h"
#include "kernels/experts/expert_ffn_cuda.cuh"
#include "kernels/linear/packed_w4_cuda.cuh"
#include "tests/kernels/cuda/tested_experts.h"

namespace sheaf::kernels::cuda {
namespace {

const char* NameOf(const void* kernel) {
  const std::pair<const void*, const char*> names[] = {
      {reinterpret_cast<const void*>(&RetileW4), "RetileW4E"},
      {reinterpret_cast<const void*>(&SumRows), "SumRowsE"},
      {reinterpret_cast<const void*>(&ReorderRows), "ReorderRowsE"},
      {reinterpret_cast<const void*>(&RunInnerTiles<kFewTiles>), "RunInnerTilesILi2E"},
      {reinterpret_cast<const void*>(&RunInnerTiles<kManyTiles>), "RunInnerTilesILi8E"},
      {reinterpret_cast<const void*>(&RunOutputTiles<kFewTiles>), "RunOutputTilesILi2E"},
      {reinterpret_cast<const void*>(&RunOutputTiles<kManyTiles>), "RunOutputTilesILi8E"}};
  for (const auto& [address, name] : names) {
    if (address == kernel) return name;
  }
  return "?";
}

class Recorder {
 public:
  explicit Recorder(std::FILE* file) : file_(file) {
    emulation::SetLaunchObserver([this](const void* kernel, const LaunchShape&,
                                        std::span<const std::span<const std::byte>> arguments) {
      name_ = NameOf(kernel);
      arguments_.clear();
      for (const auto& argument : arguments) {
        arguments_.emplace_back(reinterpret_cast<const char*>(argument.data()), argument.size());
      }
    });
    emulation::SetLauncher(
        [this](const LaunchShape& shape, void*, const std::function<void()>& kernel) {
          return Record(shape, kernel);
        });
  }

 private:
  int Record(const LaunchShape& shape, const std::function<void()>& kernel) {
    std::map<std::byte*, std::string> before;
    for (const auto& [data, bytes] : DeviceMemory()) {
      before[data] = std::string(reinterpret_cast<const char*>(data), bytes);
    }
    const absl::Status status = emulation::Run({}, shape, kernel);
    if (!status.ok()) return 719;
    std::fprintf(file_, "launch %s %d %d %zu %zu %zu\n", name_.c_str(), shape.blocks, shape.threads,
                 shape.shared_bytes, arguments_.size(), before.size());
    for (const std::string& argument : arguments_) {
      std::fprintf(file_, "argument %zu\n", argument.size());
      std::fwrite(argument.data(), 1, argument.size(), file_);
    }
    for (const auto& [data, bytes] : before) {
      std::fprintf(file_, "segment %zu %zu\n", reinterpret_cast<size_t>(data), bytes.size());
      std::fwrite(bytes.data(), 1, bytes.size(), file_);
      std::fwrite(data, 1, bytes.size(), file_);
    }
    return 0;
  }

  std::FILE* file_;
  std::string name_;
  std::vector<std::string> arguments_;
};

void RunBatch(std::mt19937& random, const ExpertFormat& format, bool permuted, int hidden,
              int intermediate, const std::vector<int>& counts) {
  const DeviceLimits limits = {.processors = 2};
  const int tokens = 5;
  const std::vector<float> floats = RandomActivations(random, size_t{tokens} * hidden);
  ThreadPool pool(1);
  QuantizedRowsBuffer x;
  QuantizeRows(pool, floats.data(), tokens, hidden, x);
  std::vector<std::unique_ptr<TestedExpert>> owned;
  std::vector<const TestedExpert*> experts;
  std::vector<std::vector<int32_t>> rows;
  int pairs = 0;
  for (int count : counts) {
    owned.push_back(std::make_unique<TestedExpert>(random, hidden, intermediate, format, limits));
    experts.push_back(owned.back().get());
    rows.emplace_back(count);
    for (int32_t& row : rows.back()) row = static_cast<int32_t>(random() % tokens);
    pairs += count;
  }
  const BatchRun run = {.shape = {.hidden = hidden,
                                  .intermediate = intermediate,
                                  .max_tokens = tokens,
                                  .max_jobs = static_cast<int>(counts.size()),
                                  .max_rows = pairs,
                                  .permuted = permuted},
                        .limits = limits,
                        .sums_come_along = false,
                        .launch_head = std::nullopt};
  RunOnDevice(run, x.view(), experts, rows);
}

void RunAll(std::FILE* file) {
  const Recorder recorder(file);
  std::mt19937 random(TestSeed());
  // Longer than a ring of two stages; a bias, zeros, sizes that fill no tile.
  RunBatch(random, FormatOf({}), false, 640, 128, {1, 9});
  RunBatch(random, FormatOf({.segment = 32, .zeros = true, .bias = true}), false, 256, 136, {3});
  RunBatch(random,
           {.gate = {.segment = 64, .scale_format = ScaleFormat::kBF16, .permutation = true},
            .up = {.segment = 128, .scale_format = ScaleFormat::kF32},
            .down = {.segment = 64, .zeros = true, .permutation = true}},
           true, 264, 128, {2});
  RunBatch(random, FormatOf({.segment = 128, .zeros = true}), false, 256, 128, {19});
}

}  // namespace
}  // namespace sheaf::kernels::cuda

int main(int argc, char** argv) {
  std::FILE* file = argc == 2 ? std::fopen(argv[1], "wb") : nullptr;
  if (file == nullptr) {
    std::fprintf(stderr, "usage: %s FILE\n", argv[0]);
    return 2;
  }
  sheaf::kernels::cuda::RunAll(file);
  return std::fclose(file) == 0 ? 0 : 1;
}
