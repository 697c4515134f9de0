#pragma once
// Scratch memory for kernels: floats at a 64-byte boundary, because a vector load that straddles
// two cache lines costs two.
//
// Memory     grows and is kept, never cleared: a kernel that keeps its scratch from call to call
//            takes no page from the system when it is warm. Resize keeps neither contents nor (when
//            it grows) addresses; Assign fills.
// Threads    as std::vector.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace sheaf::kernels {

class AlignedFloats {
 public:
  void Resize(size_t count) {
    if (count <= capacity_) return;
    // Contexts grow token by token.
    const size_t capacity = std::max(count, capacity_ + capacity_ / 2);
    storage_.reset();
    storage_.reset(static_cast<float*>(::operator new(capacity * sizeof(float), kAlignment)));
    capacity_ = capacity;
  }
  void Assign(size_t count, float value) {
    Resize(count);
    std::fill_n(storage_.get(), count, value);
  }
  float* data() { return storage_.get(); }
  const float* data() const { return storage_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(float* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<float, Free> storage_;
  size_t capacity_ = 0;
};

}  // namespace sheaf::kernels
