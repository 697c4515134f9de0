#pragma once
// Scratch: float memory that is reserved once, aligned to a cache line and never initialised, so
// that rows which no step reaches cost no memory.
//
// Ownership  owns. Threads  constant pointer; callers share out the rows.

#include <cstddef>
#include <memory>
#include <new>

namespace sheaf {

class Scratch {
 public:
  explicit Scratch(size_t num_floats)
      : data_(static_cast<float*>(::operator new(num_floats * sizeof(float) + 1, kAlignment))) {}

  float* data() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(float* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<float, Free> data_;
};

}  // namespace sheaf
