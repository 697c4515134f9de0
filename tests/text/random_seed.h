#pragma once
// The seed of a randomised test: fresh each run, or SHEAF_TEST_SEED to repeat a failure. Use with
// SCOPED_TRACE so that a failure prints it.

#include <cstdint>
#include <cstdlib>
#include <random>

namespace sheaf::testing {

inline uint64_t RandomSeed() {
  if (const char* text = std::getenv("SHEAF_TEST_SEED")) return std::strtoull(text, nullptr, 10);
  return std::random_device{}();
}

}  // namespace sheaf::testing
