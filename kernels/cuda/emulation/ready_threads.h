#pragma once
// The threads of a block that can run, in the order in which they became so. One thread uses it; no
// allocation but in Reset.

#include <bit>
#include <cstddef>
#include <vector>

namespace sheaf::kernels::cuda::emulation {

class ReadyThreads {
 public:
  // Forgets all; there will be at most `threads`.
  void Reset(size_t threads) {
    ring_.assign(std::bit_ceil(threads + 1), 0);
    head_ = tail_ = 0;
  }
  bool empty() const { return head_ == tail_; }
  unsigned size() const { return tail_ - head_; }
  int& at(unsigned i) { return ring_[(head_ + i) & (ring_.size() - 1)]; }
  void Add(int thread) { ring_[tail_++ & (ring_.size() - 1)] = thread; }
  // The i-th, whose place the last one takes.
  int Take(unsigned i) {
    const int thread = at(i);
    if (i == 0) {
      ++head_;
    } else {
      at(i) = at(size() - 1);
      --tail_;
    }
    return thread;
  }

 private:
  std::vector<int> ring_;
  unsigned head_ = 0;
  unsigned tail_ = 0;
};

}  // namespace sheaf::kernels::cuda::emulation
