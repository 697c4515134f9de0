#pragma once
// Scratch memory for kernels: floats at a 64-byte boundary, because a vector load that straddles two
// cache lines costs two.
//
// Resize keeps neither contents nor (when it grows) addresses; Assign fills. Threads as std::vector.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sheaf::kernels {

class AlignedFloats {
 public:
  void Resize(size_t count) { storage_.resize(count + kPadding); }
  void Assign(size_t count, float value) { storage_.assign(count + kPadding, value); }
  float* data() { return Align(storage_.data()); }
  const float* data() const { return Align(const_cast<float*>(storage_.data())); }

 private:
  static constexpr size_t kPadding = 64 / sizeof(float);
  static float* Align(float* p) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(p) + 63) / 64 * 64);
  }
  std::vector<float> storage_;
};

}  // namespace sheaf::kernels
