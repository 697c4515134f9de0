#pragma once
// What this machine can do at most, measured in the same run as the kernels, so that figures can be
// read as shares of a limit whatever else the machine is doing. For the *_bench.cc programs alone.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/thread_pool.h"

namespace sheaf::kernels {

// Memory for weights: 2 MiB aligned, in huge pages where the system gives them, filled with words
// that are ordinary numbers (none subnormal, which would be slow) as float32, bf16 and float16
// alike.
class BenchMemory {
 public:
  explicit BenchMemory(size_t bytes);
  ~BenchMemory();
  BenchMemory(const BenchMemory&) = delete;
  BenchMemory& operator=(const BenchMemory&) = delete;
  uint8_t* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  size_t bytes_;
  uint8_t* data_;
};

// The pool's threads summing `memory` once, in GB/s (10^9 bytes).
double ReadBandwidth(ThreadPool& pool, const BenchMemory& memory);

// Multiply-adds of 16-bit activations and 4-bit weights per second that the pool's threads could do
// if they did nothing but vpdpbusd on two planes (AVX2: vpmaddwd and vpaddd), in 10^9; 0 where the
// machine has neither.
double TwoPlanePeak(ThreadPool& pool);

// Fused multiply-adds on the widest vectors, in 10^9 multiply-adds per second; 0 without any.
double FloatPeak(ThreadPool& pool);

// Median seconds of `run(repetition)`, at least 3 repetitions and about `budget_s` seconds.
double MedianSeconds(const std::function<void(int repetition)>& run, double budget_s);

}  // namespace sheaf::kernels
