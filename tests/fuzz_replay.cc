// Runs a libFuzzer entry point without libFuzzer: the corpus files, then seeded random mutations of
// them.
//
//   target [--runs=N] [--max_seconds=S] [--seed=N] [CORPUS_DIR_OR_FILE ...]
//
// A crash (or a sanitizer report) is the failure; the seed is printed first so that it can be
// repeated.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

Bytes Mutate(Bytes bytes, std::mt19937_64& random) {
  const int edits = 1 + static_cast<int>(random() % 8);
  for (int edit = 0; edit < edits; ++edit) {
    const size_t at = bytes.empty() ? 0 : random() % bytes.size();
    switch (random() % 5) {
      case 0:
        if (!bytes.empty()) bytes[at] ^= static_cast<uint8_t>(1u << (random() % 8));
        break;
      case 1:
        if (!bytes.empty()) bytes[at] = static_cast<uint8_t>(random());
        break;
      case 2:
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), static_cast<uint8_t>(random()));
        break;
      case 3:
        if (!bytes.empty()) bytes.resize(at);
        break;
      default: {
        const size_t length = bytes.empty() ? 0 : random() % (bytes.size() - at) % 64;
        const Bytes piece(bytes.begin() + static_cast<ptrdiff_t>(at),
                          bytes.begin() + static_cast<ptrdiff_t>(at + length));
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), piece.begin(), piece.end());
      }
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = std::random_device{}();
  int64_t runs = 10000;
  double max_seconds = 10;
  std::vector<Bytes> corpus = {Bytes{}};
  const auto read = [&](const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  };
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--runs=", 0) == 0) {
      runs = std::atoll(argument.c_str() + 7);
    } else if (argument.rfind("--max_seconds=", 0) == 0) {
      max_seconds = std::atof(argument.c_str() + 14);
    } else if (argument.rfind("--seed=", 0) == 0) {
      seed = std::strtoull(argument.c_str() + 7, nullptr, 10);
    } else if (std::filesystem::is_directory(argument)) {
      for (const auto& entry : std::filesystem::directory_iterator(argument)) read(entry.path());
    } else {
      read(argument);
    }
  }
  std::printf("seed %llu, %zu corpus inputs\n", static_cast<unsigned long long>(seed),
              corpus.size());
  std::fflush(stdout);
  for (const Bytes& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
  std::mt19937_64 random(seed);
  const auto start = std::chrono::steady_clock::now();
  int64_t done = 0;
  while (done < runs &&
         std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() <
             max_seconds) {
    const Bytes input = Mutate(corpus[random() % corpus.size()], random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
    ++done;
  }
  std::printf("%lld mutated inputs, no crash\n", static_cast<long long>(done));
  return 0;
}
