#pragma once
// Fibers: stacks of their own that one thread runs in turn, each until it switches to another by
// name.
//
// Ownership  a Fiber owns its stack (one guard page below it); the thread's own stack is a Fiber
//            made by the default constructor. A Fiber may be abandoned in the middle: nothing on
//            its stack is destroyed.
// Threads    a Fiber is used by one thread at a time, the one whose stack began the switching.
// Sanitizers AddressSanitizer is told of every switch. With SHEAF_FIBERS_UNDER_TSAN (this file
//            compiled without -fsanitize=thread, its users with it) a Fiber is a thread of
//            ThreadSanitizer's, the same one after another Prepare, which no switch orders: only
//            Release and Acquire on the same address do.
// Cost       a switch is 10 ns on x86-64 (registers only); elsewhere swapcontext, a system call.

#include <cstddef>
#include <memory>

namespace sheaf::kernels::cuda::emulation {

class Fiber {
 public:
  Fiber();  // of the calling thread's own stack
  explicit Fiber(size_t stack_bytes);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to it calls entry() from the top of its stack; entry must not return.
  void Prepare(void (*entry)());

  // Leaves `this`, which is running, for `to`; returns when something switches back.
  // last: `this` will not be switched to again before another Prepare.
  void SwitchTo(Fiber& to, bool last = false);

  // What a fiber did before Release(at) happened before what one does after Acquire(at). No-ops
  // without ThreadSanitizer.
  static void Release(void* at);
  static void Acquire(void* at);

 private:
  struct State;
  std::unique_ptr<State> state_;

  static void Enter();
};

// Whether accesses of fibers are watched by ThreadSanitizer.
bool FibersAreWatched();

}  // namespace sheaf::kernels::cuda::emulation
