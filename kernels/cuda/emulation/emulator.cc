#include "kernels/cuda/emulation/emulator.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/emulation/fiber.h"
#include "kernels/cuda/emulation/ready_threads.h"
#include "kernels/cuda/emulation/shared_memory.h"

namespace sheaf::kernels::cuda::emulation {
namespace {

constexpr size_t kStackBytes = 64 * 1024;
constexpr int kMaxThreads = 1024;
constexpr int kWatchedSets = 4;
constexpr int kMaxCopies = 256;  // of a thread, in flight

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A thread of a block.
struct Thread {
  explicit Thread(size_t stack_bytes) : fiber(stack_bytes) {}
  Fiber fiber;
  bool ended = false;
  const char* waits_in = nullptr;  // null: it can run
  unsigned waits_at = 0;           // line
  // An array: what a fiber allocates, another frees, which ThreadSanitizer would call a race.
  Copy copies[kMaxCopies];
  int num_copies = 0;
  int group = 0;
};

using ThreadSet = std::vector<std::unique_ptr<Thread>>;

struct Warp {
  LaneWords lanes[kWarpLanes];
  uint32_t arrived = 0;
  const char* what = nullptr;
  unsigned line = 0;
  // Of two meetings in a row: a fast lane must not release the one that a slow lane acquires.
  int parity = 0;
};

struct Block {
  Options options;
  LaunchShape launch;
  const std::function<void()>* kernel = nullptr;
  Fiber outside;      // who called Run
  ThreadSet threads;  // of the running block
  // Sets of threads for the blocks, in turn. To ThreadSanitizer what a fiber does in two blocks is
  // in order, and a barrier in the second shows it to all: watched blocks have sets of their own,
  // as far as there are some.
  std::vector<ThreadSet> resting;
  size_t num_run = 0;
  std::vector<Warp> warps;
  ReadyThreads ready;
  ThreadPlace place;  // of the running thread
  int alive = 0;
  int arrived = 0;  // at the barrier
  unsigned barrier_line = 0;
  int parity = 0;
  // What ThreadSanitizer is told of: the launch's begin and end, and two addresses a block and two
  // a warp of it for their barriers, none of which two blocks share.
  char begin = 0;
  char end = 0;
  std::vector<char> orders;
  uint64_t random = 1;
  std::string fault;
  uint64_t switches = 0;
};

thread_local Block* block = nullptr;
thread_local ThreadSet idle_threads;  // their stacks are kept for the next launch
thread_local uint64_t total_switches = 0;

uint64_t Random() {
  uint64_t x = block->random;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return block->random = x;
}

// Of the running block's barrier (0) or of its warps' (1 + warp).
char* OrderOf(int barrier, int parity) {
  const size_t barriers = 1 + block->warps.size();
  return &block->orders[2 * (block->place.block * barriers + barrier) + parity];
}

Thread& Running() { return *block->threads[block->place.thread]; }

[[noreturn]] void Fail(const std::string& what) {
  throw Fault(
      absl::StrCat(what, " [block ", block->place.block, " thread ", block->place.thread, "]"));
}

int PickThread() {
  ReadyThreads& ready = block->ready;
  switch (block->options.schedule) {
    case Schedule::kInOrder:
      break;
    case Schedule::kReverse:
      return ready.Take(ready.size() - 1);
    case Schedule::kRandom:
      return ready.Take(Random() % ready.size());
    case Schedule::kWarpFirst:
      for (unsigned i = ready.size(); i-- > 0;) {
        if (ready.at(i) / kWarpLanes == block->place.thread / kWarpLanes) return ready.Take(i);
      }
  }
  return ready.Take(0);
}

// The running thread waits or has ended: another one runs, or, when none can or something was
// found, whoever called Run.
void Yield(Fiber& from, bool last) {
  Fiber* to = &block->outside;
  if (!block->ready.empty() && block->fault.empty()) {
    block->place.thread = PickThread();
    to = &Running().fiber;
  }
  if (to == &from) return;
  ++block->switches;
  from.SwitchTo(*to, last);
}

void Wake(int thread) {
  block->threads[thread]->waits_in = nullptr;
  block->ready.Add(thread);
}

void WaitIn(const char* what, unsigned line) {
  Thread& me = Running();
  me.waits_in = what;
  me.waits_at = line;
  Yield(me.fiber, false);
}

constexpr char kBarrier[] = "SyncBlock";

void ReleaseBarrier() {
  block->arrived = 0;
  block->parity ^= 1;
  for (size_t i = 0; i < block->threads.size(); ++i) {
    if (block->threads[i]->waits_in == kBarrier) Wake(static_cast<int>(i));
  }
}

void RunThread() {
  Thread& me = Running();
  Fiber::Acquire(&block->begin);
  try {
    (*block->kernel)();
    if (me.num_copies > 0) {
      Fail(absl::StrCat("the thread ends with ", me.num_copies, " unfinished copies"));
    }
  } catch (const std::exception& error) {
    if (block->fault.empty()) block->fault = error.what();
  }
  me.ended = true;
  me.waits_in = nullptr;
  --block->alive;
  Fiber::Release(&block->end);
  if (block->arrived > 0 && block->arrived == block->alive) ReleaseBarrier();
  Yield(me.fiber, true);
}

std::string DescribeDeadlock() {
  std::string text = "deadlock:";
  int shown = 0;
  for (size_t i = 0; i < block->threads.size(); ++i) {
    const Thread& thread = *block->threads[i];
    if (thread.ended || ++shown > 4) continue;
    absl::StrAppend(&text, " thread ", i, " in ", thread.waits_in ? thread.waits_in : "?", " line ",
                    thread.waits_at, ";");
  }
  absl::StrAppend(&text, " ", block->threads.size() - block->alive, " threads have ended [block ",
                  block->place.block, "]");
  return text;
}

void RunBlock(int index) {
  const SharedMemory shared(block->launch.shared_bytes);
  ThreadSet& set = block->resting[block->num_run++ % block->resting.size()];
  std::swap(block->threads, set);
  block->place.block = index;
  block->place.shared = shared.data();
  block->alive = block->launch.threads;
  block->arrived = 0;
  block->ready.Reset(block->threads.size());
  for (Warp& warp : block->warps) warp.arrived = 0;
  for (size_t i = 0; i < block->threads.size(); ++i) {
    Thread& thread = *block->threads[i];
    thread.ended = false;
    thread.waits_in = nullptr;
    thread.num_copies = 0;
    thread.group = 0;
    thread.fiber.Prepare(RunThread);
    block->ready.Add(static_cast<int>(i));
  }
  Fiber::Release(
      &block->begin);  // the host has seen nothing of other blocks: this does not order them
  Yield(block->outside, false);
  if (block->alive > 0 && block->fault.empty()) {
    block->fault = DescribeDeadlock();
  } else if (block->fault.empty() && !shared.FenceStands()) {
    block->fault = absl::StrCat("written past the end of shared memory [block ", index, "]");
  }
  std::swap(block->threads, set);
}

}  // namespace

absl::Status Run(const Options& options, const LaunchShape& launch,
                 const std::function<void()>& kernel) {
  if (launch.blocks < 1 || launch.threads < 1 || launch.threads > kMaxThreads ||
      launch.threads % kWarpLanes != 0 || launch.shared_bytes > options.shared_limit) {
    return absl::InternalError(absl::StrCat("launch of ", launch.blocks, " blocks of ",
                                            launch.threads, " threads with ", launch.shared_bytes,
                                            " bytes of shared memory of ", options.shared_limit));
  }
  Block own;
  own.options = options;
  own.launch = launch;
  own.kernel = &kernel;
  own.random = options.seed * 0x9e3779b97f4a7c15ull | 1;
  own.place.blocks = launch.blocks;
  own.resting.resize(FibersAreWatched() ? std::min(launch.blocks, kWatchedSets) : 1);
  for (auto& set : own.resting) {
    for (int i = 0; i < launch.threads; ++i) {
      if (idle_threads.empty()) idle_threads.push_back(std::make_unique<Thread>(kStackBytes));
      set.push_back(std::move(idle_threads.back()));
      idle_threads.pop_back();
    }
  }
  own.warps.resize(launch.threads / kWarpLanes);
  own.orders.resize(2 * launch.blocks * (1 + own.warps.size()));
  block = &own;
  std::vector<int> order(launch.blocks);
  std::iota(order.begin(), order.end(), 0);
  if (options.schedule == Schedule::kRandom) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[Random() % i]);
  }
  for (int index : order) {
    RunBlock(index);
    if (!own.fault.empty()) break;
  }
  Fiber::Acquire(&own.end);  // only the end of the kernel orders blocks
  total_switches += own.switches;
  for (auto& set : own.resting) {
    std::move(set.begin(), set.end(), std::back_inserter(idle_threads));
  }
  block = nullptr;
  return own.fault.empty() ? absl::OkStatus() : absl::InternalError(own.fault);
}

uint64_t Switches() { return total_switches; }

const ThreadPlace& Here() { return block->place; }

void SyncBlock(const Site& site) {
  if (block->arrived > 0 && block->barrier_line != site.line()) {
    Fail(absl::StrCat("SyncBlock on line ", site.line(), " meets the one on line ",
                      block->barrier_line));
  }
  block->barrier_line = site.line();
  char* order = OrderOf(0, block->parity);
  Fiber::Release(order);
  if (++block->arrived == block->alive) {
    ReleaseBarrier();
    block->ready.Add(block->place.thread);
    Yield(Running().fiber, false);
  } else {
    WaitIn(kBarrier, site.line());
  }
  Fiber::Acquire(order);
}

void Meet(const uint32_t* in, int num_in, uint32_t* out, int num_out, WarpOperation operation,
          int argument, const char* what, const Site& site) {
  const int lane = block->place.thread % kWarpLanes;
  Warp& warp = block->warps[block->place.thread / kWarpLanes];
  if (warp.arrived != 0 && (std::strcmp(warp.what, what) != 0 || warp.line != site.line())) {
    Fail(
        absl::StrCat(what, " on line ", site.line(), " meets ", warp.what, " on line ", warp.line));
  }
  warp.what = what;
  warp.line = site.line();
  for (int i = 0; i < num_in; ++i) warp.lanes[lane].in[i] = in[i];
  warp.arrived |= 1u << lane;
  if (warp.arrived == ~0u) {
    if (operation != nullptr) operation(warp.lanes, argument);
    warp.arrived = 0;
    const int first = block->place.thread - lane;
    for (int i = 0; i < kWarpLanes; ++i) {
      if (i != lane) Wake(first + i);
    }
  } else {
    WaitIn(what, site.line());
  }
  for (int i = 0; i < num_out; ++i) out[i] = warp.lanes[lane].out[i];
}

void SyncWarp(const Site& site) {
  Warp& warp = block->warps[block->place.thread / kWarpLanes];
  // The last lane to arrive turns the parity for the next meeting.
  char* order = OrderOf(1 + block->place.thread / kWarpLanes, warp.parity);
  Fiber::Release(order);
  Meet(
      nullptr, 0, nullptr, 0,
      [](LaneWords*, int) {
        Warp& mine = block->warps[block->place.thread / kWarpLanes];
        mine.parity ^= 1;
      },
      0, "SyncWarp", site);
  Fiber::Acquire(order);
}

void QueueCopy(void* to, const void* from, int bytes, const Site& site) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(to);
  const uintptr_t shared = reinterpret_cast<uintptr_t>(block->place.shared);
  if (begin % bytes != 0 || reinterpret_cast<uintptr_t>(from) % bytes != 0) {
    Fail(absl::StrCat("copy of ", bytes, " bytes, misaligned, line ", site.line()));
  }
  if (begin < shared || begin + bytes > shared + block->launch.shared_bytes) {
    Fail(absl::StrCat("copy to outside shared memory, line ", site.line()));
  }
  Thread& me = Running();
  if (me.num_copies == kMaxCopies) Fail("more copies in flight than the emulator's table has");
  me.copies[me.num_copies++] = {.to = static_cast<unsigned char*>(to),
                                .from = static_cast<const unsigned char*>(from),
                                .bytes = bytes,
                                .group = me.group};
}

void CommitCopies() { ++Running().group; }

bool TakeDueCopy(int leave, Copy* copy) {
  Thread& me = Running();
  for (int i = 0; i < me.num_copies; ++i) {
    if (me.copies[i].group >= me.group - leave) continue;
    *copy = me.copies[i];
    me.copies[i] = me.copies[--me.num_copies];
    return true;
  }
  return false;
}

}  // namespace sheaf::kernels::cuda::emulation
