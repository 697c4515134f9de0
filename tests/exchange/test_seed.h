#pragma once
// A fresh seed each run; SHEAF_TEST_SEED repeats one. Put SCOPED_TRACE around what uses it.

#include <cstdint>
#include <cstdlib>
#include <random>

namespace sheaf {

inline uint64_t TestSeed() {
  if (const char* given = std::getenv("SHEAF_TEST_SEED")) return std::strtoull(given, nullptr, 10);
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace sheaf
