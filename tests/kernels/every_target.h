#pragma once
// What the kernel tests share: running a body on every instruction set of this machine, fresh
// random inputs with a seed that a failure prints, and comparison of floats bit by bit.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "kernels/simd/cpu_target.h"

namespace sheaf::kernels::testing {

// Calls body(name) with each available target forced, "scalar" (the reference) included; "auto"
// afterwards.
template <typename Body>
void OnEveryTarget(const Body& body) {
  for (const std::string& name : AvailableCpuTargets()) {
    ASSERT_TRUE(ForceCpuTarget(name).ok()) << name;
    SCOPED_TRACE("CPU target " + name);
    body(name);
  }
  ASSERT_TRUE(ForceCpuTarget("auto").ok());
}

// A fresh seed for each run; SHEAF_TEST_SEED repeats one.
inline uint64_t FreshSeed() {
  if (const char* seed = std::getenv("SHEAF_TEST_SEED")) return std::strtoull(seed, nullptr, 10);
  return std::random_device()();
}

inline std::string SeedMessage(uint64_t seed) { return "SHEAF_TEST_SEED=" + std::to_string(seed); }

inline std::vector<float> RandomNormals(std::mt19937_64& random, size_t count, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A copy whose data() is aligned to its element and to nothing more, so that vector loads are
// misaligned.
template <typename T>
class Misaligned {
 public:
  explicit Misaligned(const std::vector<T>& values) : storage_(values.size() + 1) {
    std::copy(values.begin(), values.end(), storage_.begin() + 1);
  }
  explicit Misaligned(size_t count) : storage_(count + 1) {}
  T* data() { return storage_.data() + 1; }
  const T* data() const { return storage_.data() + 1; }
  size_t size() const { return storage_.size() - 1; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }

 private:
  std::vector<T> storage_;
};

// The same bits; any NaN equals any NaN (their payloads are the processor's own).
inline bool SameBits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

template <typename A, typename B>
void ExpectSameBits(const A& actual, const B& expected, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    ASSERT_TRUE(SameBits(actual[i], expected[i]))
        << "element " << i << " of " << count << ": " << std::hexfloat << actual[i] << " and not "
        << expected[i];
  }
}

// Lengths on both sides of every vector width.
inline constexpr size_t kLengths[] = {1, 3, 15, 16, 17, 31, 128, 129, 5120};

}  // namespace sheaf::kernels::testing
