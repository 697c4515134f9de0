#include "kernels/cuda/emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#include "base/check.h"

#ifdef SHEAF_FIBERS_UNDER_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif
#if !defined(__x86_64__) || defined(SHEAF_FIBERS_BY_UCONTEXT)
#define SHEAF_UCONTEXT 1
#include <ucontext.h>
#endif

#ifndef SHEAF_UCONTEXT
// void sheaf_switch_stack(void** save, void* load): what a callee must keep, and the stack.
extern "C" void sheaf_switch_stack(void** save, void* load);
asm(R"(
.text
.globl sheaf_switch_stack
.type sheaf_switch_stack,@function
sheaf_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sheaf_switch_stack,.-sheaf_switch_stack
)");
#endif

namespace sheaf::kernels::cuda::emulation {
namespace {

constexpr size_t kGuardBytes = 4096;

}  // namespace

struct Fiber::State {
  unsigned char* memory = nullptr;  // the guard page, then the stack; null: the thread's own
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void (*entry)() = nullptr;
#ifdef SHEAF_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
#ifdef SHEAF_FIBERS_UNDER_TSAN
  void* watched = nullptr;
#endif
};

namespace {

thread_local Fiber* left = nullptr;     // the one that the last switch left
thread_local Fiber* entered = nullptr;  // and went to

}  // namespace

Fiber::Fiber() : state_(std::make_unique<State>()) {
#ifdef SHEAF_FIBERS_UNDER_TSAN
  state_->watched = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(size_t stack_bytes) : state_(std::make_unique<State>()) {
  void* memory = mmap(nullptr, kGuardBytes + stack_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SHEAF_CHECK(memory != MAP_FAILED, "memory for the stack of a fiber");
  state_->memory = static_cast<unsigned char*>(memory);
  SHEAF_CHECK(mprotect(memory, kGuardBytes, PROT_NONE) == 0, "guard page of a fiber");
  state_->stack = state_->memory + kGuardBytes;
  state_->stack_bytes = stack_bytes;
}

Fiber::~Fiber() {
  if (state_->memory == nullptr) return;
#ifdef SHEAF_FIBERS_UNDER_TSAN
  if (state_->watched != nullptr) __tsan_destroy_fiber(state_->watched);
#endif
  munmap(state_->memory, kGuardBytes + state_->stack_bytes);
}

void Fiber::Prepare(void (*entry)()) {
  state_->entry = entry;
  unsigned char* stack = state_->memory + kGuardBytes;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack, state_->stack_bytes);  // the last use never returned
#endif
#ifdef SHEAF_FIBERS_UNDER_TSAN
  if (state_->watched == nullptr) state_->watched = __tsan_create_fiber(0);
#endif
#ifdef SHEAF_UCONTEXT
  getcontext(&state_->context);
  state_->context.uc_stack.ss_sp = stack;
  state_->context.uc_stack.ss_size = state_->stack_bytes;
  state_->context.uc_link = nullptr;
  makecontext(&state_->context, &Fiber::Enter, 0);
#else
  void** top = reinterpret_cast<void**>(stack + state_->stack_bytes);
  *--top = nullptr;  // so that the stack is aligned as after a call
  *--top = reinterpret_cast<void*>(&Fiber::Enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  state_->stack_pointer = top;
#endif
}

void Fiber::Enter() {
#ifdef __SANITIZE_ADDRESS__
  State& from = *left->state_;
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (from.stack == nullptr) from.stack = stack, from.stack_bytes = bytes;
#endif
  entered->state_->entry();
  std::abort();
}

void Fiber::SwitchTo(Fiber& to, [[maybe_unused]] bool last) {
  left = this;
  entered = &to;
#ifdef SHEAF_FIBERS_UNDER_TSAN
  __tsan_switch_to_fiber(to.state_->watched, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef __SANITIZE_ADDRESS__
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(last ? nullptr : &fake, to.state_->stack, to.state_->stack_bytes);
#endif
#ifdef SHEAF_UCONTEXT
  swapcontext(&state_->context, &to.state_->context);
#else
  sheaf_switch_stack(&state_->stack_pointer, to.state_->stack_pointer);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

#ifdef SHEAF_FIBERS_UNDER_TSAN
void Fiber::Release(void* at) { __tsan_release(at); }
void Fiber::Acquire(void* at) { __tsan_acquire(at); }
bool FibersAreWatched() { return true; }
#else
void Fiber::Release(void*) {}
void Fiber::Acquire(void*) {}
bool FibersAreWatched() { return false; }
#endif

}  // namespace sheaf::kernels::cuda::emulation
