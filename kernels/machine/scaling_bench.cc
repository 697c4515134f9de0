// What machines with more threads than this one would do with a step: how the products of one layer
// of GLM-4.6 are cut into items (by the planners that cut them when they run), the bytes they read,
// the share of the threads' time that is idle at the ends of loops, and from these the time of a
// whole step of GLM-4.6-REAP-218B (3 dense layers, 89 with 96 experts). Nothing is multiplied here:
// linear_bench and expert_ffn_bench measure, on as many threads as they are told.
//
//   scaling_bench [GB/s of the machine] [G multiply-adds/s of a thread] [us of a barrier]
//
// An item takes the longer of its multiply-adds at a thread's rate and its weights at an equal
// share, among those that read, of the bandwidth (at most 20 GB/s a thread); items are taken in
// order by whoever is free.
// Chunks of rows after the first read their weights from a shared cache, for nothing. Left out:
// attention (it depends on the context), norms, quantizing, sampling, the activations' bytes,
// sockets.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "kernels/experts/expert_split.h"
#include "kernels/linear/product_split.h"

namespace sheaf::kernels {
namespace {

constexpr int kHidden = 5120;
constexpr int kAttended = 12288;
constexpr int kQueryKeyValue = 14336;
constexpr int kInner = 1536;
constexpr int kDenseInner = 12288;
constexpr int kExperts = 96;
constexpr int kTopK = 8;
constexpr int kVocabulary = 151552;
constexpr int kDenseLayers = 3;
constexpr int kExpertLayers = 89;
constexpr double kThreadGbps = 20;

struct Machine {
  int num_threads = 1;
  double gbps = 300;
  double thread_gmacs = 100;
  double barrier_us = 2;
};

struct Item {
  double multiply_adds = 0;
  double bytes = 0;
};

struct Loop {
  const char* name;
  std::vector<Item> items;
};

struct Figures {
  double seconds = 0;
  double busy_share = 1;
  double bytes = 0;
};

// What is left; nothing where rounding alone would be.
double Without(double amount, double done) {
  return amount - done > 1e-9 * amount ? amount - done : 0;
}

// Every thread takes the next item when it is free. What its items read and what they multiply go
// on at the same time; those that read share the bandwidth.
Figures Run(const Machine& machine, const Loop& loop) {
  Figures figures;
  for (const Item& item : loop.items) figures.bytes += item.bytes;
  std::vector<Item> running;
  size_t next = 0;
  double busy = 0;
  for (;;) {
    while (running.size() < size_t(machine.num_threads) && next < loop.items.size()) {
      running.push_back(loop.items[next++]);
    }
    if (running.empty()) break;
    const auto readers = std::count_if(running.begin(), running.end(),
                                       [](const Item& item) { return item.bytes > 0; });
    const double bytes_per_s =
        1e9 * std::min(kThreadGbps, machine.gbps / double(std::max<ptrdiff_t>(1, readers)));
    const double rate = 1e9 * machine.thread_gmacs;
    double until = std::numeric_limits<double>::infinity();  // one of these ends
    for (const Item& item : running) {
      if (item.bytes > 0) until = std::min(until, item.bytes / bytes_per_s);
      if (item.multiply_adds > 0) until = std::min(until, item.multiply_adds / rate);
    }
    figures.seconds += until;
    busy += until * double(running.size());
    for (Item& item : running) {
      item.bytes = Without(item.bytes, until * bytes_per_s);
      item.multiply_adds = Without(item.multiply_adds, until * rate);
    }
    std::erase_if(running,
                  [](const Item& item) { return item.bytes <= 0 && item.multiply_adds <= 0; });
  }
  if (figures.seconds > 0) figures.busy_share = busy / (machine.num_threads * figures.seconds);
  figures.seconds += 1e-6 * machine.barrier_us;
  return figures;
}

// A product of n outputs and k inputs in a loop of its own; float weights have 2 bytes or more.
Loop Product(const char* name, int n, int k, double weight_bytes, int rows, int num_threads) {
  const int block_outputs = BlockOutputs(weight_bytes >= 2, rows);
  const int blocks = (n + block_outputs - 1) / block_outputs;
  const ProductSplit split = SplitProduct(blocks, rows, blocks, num_threads);
  Loop loop{name, {}};
  for (int64_t item = 0; item < split.num_items; ++item) {
    const int64_t first_block = item / split.row_items * split.item_blocks;
    const int64_t first_row = item % split.row_items * split.item_rows;
    const double outputs =
        block_outputs * double(std::min<int64_t>(split.item_blocks, blocks - first_block));
    const double item_rows = double(std::min<int64_t>(split.item_rows, rows - first_row));
    loop.items.push_back(
        {outputs * k * item_rows, first_row == 0 ? outputs * k * weight_bytes : 0});
  }
  return loop;
}

// A loop over experts with so many rows each; a unit of work is `products` products.
Loop Experts(const char* name, std::vector<int> rows, int n, int k, int products, int num_threads) {
  std::sort(rows.rbegin(), rows.rend());
  const ExpertSplit split = SplitExperts(rows, n, num_threads);
  Loop loop{name, {}};
  for (const int count : rows) {
    for (int chunk = 0; chunk < split.row_chunks(count); ++chunk) {
      const int item_rows = std::min(split.item_rows, count - chunk * split.item_rows);
      for (int output = 0; output < n; output += split.item_outputs) {
        const double weights = double(products) * std::min(split.item_outputs, n - output) * k;
        loop.items.push_back({weights * item_rows, chunk == 0 ? weights / 2 : 0});
      }
    }
  }
  return loop;
}

// Every row goes to kTopK of the experts, all as likely.
std::vector<int> RowsOfExperts(int rows) {
  std::mt19937 random(1);
  std::vector<int> counts(kExperts);
  std::vector<int> experts(kExperts);
  for (int i = 0; i < kExperts; ++i) experts[i] = i;
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < kTopK; ++i) {
      std::swap(experts[i], experts[i + random() % (kExperts - i)]);
      ++counts[experts[i]];
    }
  }
  std::erase(counts, 0);
  return counts;
}

void Print(const Machine& machine, int rows) {
  const int threads = machine.num_threads;
  // The shared expert is one of those that run together (ExpertLayer::TakeShared).
  std::vector<int> together = RowsOfExperts(rows);
  together.push_back(rows);
  const Loop attention[] = {Product("q k v", kQueryKeyValue, kHidden, 0.5, rows, threads),
                            Product("o_proj", kHidden, kAttended, 0.5, rows, threads)};
  const Loop experts[] = {Product("gate", kExperts, kHidden, 4, rows, threads),
                          Experts("experts gate, up", together, kInner, kHidden, 2, threads),
                          Experts("experts down", together, kHidden, kInner, 1, threads)};
  const Loop dense[] = {Product("dense gate, up", 2 * kDenseInner, kHidden, 0.5, rows, threads),
                        Product("dense down", kHidden, kDenseInner, 0.5, rows, threads)};
  const Loop head[] = {Product("lm_head", kVocabulary, kHidden, 2, std::min(rows, 64), threads)};
  double seconds = 0;
  double bytes = 0;
  double barriers = 0;
  std::printf("\n%d threads, %d rows\n  %-18s %6s %9s %9s %6s\n", threads, rows, "loop", "items",
              "MB", "us", "idle");
  const auto stage = [&](std::span<const Loop> loops, int times) {
    for (const Loop& loop : loops) {
      const Figures figures = Run(machine, loop);
      std::printf("  %-18s %6zu %9.1f %9.1f %5.0f%%\n", loop.name, loop.items.size(),
                  figures.bytes / 1e6, figures.seconds * 1e6,
                  100 * std::max(0.0, 1 - figures.busy_share));
      seconds += times * figures.seconds;
      bytes += times * figures.bytes;
      barriers += times * 1e-6 * machine.barrier_us;
    }
  };
  stage(attention, kDenseLayers + kExpertLayers);
  stage(experts, kExpertLayers);
  stage(dense, kDenseLayers);
  stage(head, 1);
  std::printf(
      "  a step: %.1f ms = %.1f tokens/s; %.2f GB = %.0f%% of the bandwidth; barriers %.0f%%\n",
      seconds * 1e3, rows / seconds, bytes / 1e9, 100 * bytes / 1e9 / seconds / machine.gbps,
      100 * barriers / seconds);
}

int Main(int argc, char** argv) {
  Machine machine;
  if (argc > 1) machine.gbps = std::atof(argv[1]);
  if (argc > 2) machine.thread_gmacs = std::atof(argv[2]);
  if (argc > 3) machine.barrier_us = std::atof(argv[3]);
  if (!(machine.gbps > 0 && machine.thread_gmacs > 0 && machine.barrier_us >= 0)) {
    std::fprintf(stderr, "wanted three numbers above 0\n");
    return 2;
  }
  std::printf("%.0f GB/s, %.0f G multiply-adds/s a thread, %.1f us a barrier\n", machine.gbps,
              machine.thread_gmacs, machine.barrier_us);
  for (const int rows : {1, 8, 512, 2048}) {
    for (const int threads : {1, 2, 4, 8, 16, 32, 64, 128}) {
      machine.num_threads = threads;
      Print(machine, rows);
    }
  }
  return 0;
}

}  // namespace
}  // namespace sheaf::kernels

int main(int argc, char** argv) { return sheaf::kernels::Main(argc, argv); }
