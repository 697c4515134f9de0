#pragma once
// ByteBuffer: reusable memory for payloads, 64-byte aligned, not zeroed. Resize keeps capacity, not
// contents.
//
// Ownership  owns its memory; pointers are valid until the next Resize. Threads: one.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace sheaf {

class ByteBuffer {
 public:
  ByteBuffer() = default;
  ByteBuffer(ByteBuffer&& other) noexcept { *this = std::move(other); }
  ByteBuffer& operator=(ByteBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  uint8_t* Resize(size_t bytes) {
    if (bytes > capacity_) {
      data_.reset();  // first, so that old and new are not both held
      const size_t rounded = (bytes + 4095) / 4096 * 4096;
      data_.reset(static_cast<uint8_t*>(std::aligned_alloc(64, rounded)));
      if (data_ == nullptr) {
        capacity_ = size_ = 0;
        throw std::bad_alloc();
      }
      capacity_ = rounded;
    }
    size_ = bytes;
    return data_.get();
  }

  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  std::span<uint8_t> bytes() { return {data_.get(), size_}; }
  std::span<const uint8_t> bytes() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(uint8_t* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<uint8_t[], Free> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace sheaf
