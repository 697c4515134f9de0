// load_bench CHECKPOINT [THREADS [RUNS]]: what loading a whole model costs in one process: time,
// and the memory resident afterwards and at most. The first run may find a cold page cache.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "model/decoder_weights.h"

namespace sheaf {
namespace {

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", std::string(value.status().message()).c_str());
  std::exit(1);
}

// One line of /proc/self/status, in MB.
double StatusMb(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key + ":", 0) == 0)
      return std::strtod(line.c_str() + key.size() + 1, nullptr) * 1.024e-3;
  }
  return 0;
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: load_bench CHECKPOINT [THREADS [RUNS]]\n");
    return 1;
  }
  ThreadPool pool(argc > 2 ? std::max(1, std::atoi(argv[2]))
                           : static_cast<int>(std::thread::hardware_concurrency()));
  const int runs = argc > 3 ? std::max(1, std::atoi(argv[3])) : 3;
  const ModelConfig config = OrExit(LoadModelConfig(argv[1]));
  for (int run = 0; run < runs; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    std::unique_ptr<Checkpoint> checkpoint = OrExit(Checkpoint::Open(argv[1]));
    const auto weights =
        OrExit(DecoderWeights::Load(*checkpoint, config, WholeModel(config), pool, nullptr));
    const double router = seconds();
    const auto slice =
        OrExit(ExpertSlice::Load(*checkpoint, config, AllExperts(config), pool, nullptr));
    const double all = seconds();
    const size_t bytes = weights->resident_bytes() + slice->resident_bytes();
    checkpoint = nullptr;
    std::printf("%.0f MB: router %.3f s, experts %.3f s; resident %.0f MB own, %.0f MB of files; "
                "peak %.0f MB\n",
                static_cast<double>(bytes) / 1e6, router, all - router, StatusMb("RssAnon"),
                StatusMb("RssFile"), StatusMb("VmHWM"));
  }
  return 0;
}

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) { return sheaf::Main(argc, argv); }
