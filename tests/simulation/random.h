#pragma once
// Random: the only source of chance in a simulation (splitmix64: the same on every machine).

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace sheaf::simulation {

inline uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(Mix(seed)) {}

  uint64_t Next() { return Mix(state_++); }
  // [0, n); 0 for n < 1.
  int Below(int n) { return n < 1 ? 0 : static_cast<int>(Next() % static_cast<uint64_t>(n)); }
  int Between(int low, int high) { return low + Below(high - low + 1); }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  bool Chance(double p) { return Unit() < p; }
  Duration Between(Duration low, Duration high) {
    const auto span = std::max<int64_t>(0, (high - low).count());
    return low + Duration(static_cast<int64_t>(Unit() * static_cast<double>(span)));
  }
  Random Fork() { return Random(Next()); }

 private:
  uint64_t state_;
};

}  // namespace sheaf::simulation
