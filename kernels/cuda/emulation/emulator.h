#pragma once
// Runs a CUDA kernel on the CPU: one fiber a thread of a block, which the operations of
// kernels/cuda/device.h switch where threads of a block meet.
//
// Order      which thread runs next, and which block, is Options::schedule.
// Finds      (always) barriers and warp operations that only some threads reach, deadlocks, copies
//            that are misaligned, outside shared memory or left unfinished, writes past the end of
//            shared memory, launches that the device would refuse. (-fsanitize=address) accesses
//            outside shared memory and outside buffers of the heap. (-fsanitize=thread, with
//            emulator.cc and fiber.cc compiled with SHEAF_FIBERS_UNDER_TSAN and without the flag)
//            accesses of two threads, of one block or of two, that nothing orders: only barriers,
//            warp barriers and the end of the kernel do.
// Poison     shared memory begins as 0xff bytes (NaN in every float format); so does the
//            destination of an asynchronous copy from its issue to the wait that covers it, when
//            the bytes are really copied.
// Threads    Run may be called by any thread, by several at once; a kernel's blocks run one after
//            the other on it.
// Errors     INTERNAL with what was found, block and thread. The kernel's memory then holds
//            anything.
// Limits     one dimension; no clusters, no flags between blocks, no static shared memory.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>

#include "absl/status/status.h"
#include "kernels/cuda/launch_shape.h"

namespace sheaf::kernels::cuda::emulation {

using Site = std::source_location;

enum class Schedule {
  kInOrder,    // the thread that waits longest
  kReverse,    // the one that waits shortest
  kRandom,     // blocks in random order too
  kWarpFirst,  // one of the same warp while there is one
};

struct Options {
  Schedule schedule = Schedule::kRandom;
  uint64_t seed = 1;
  size_t shared_limit =
      99 * 1024;  // a block's: 99 KiB on sm_86, 89 and 120, 163 on sm_80, 227 on sm_90 and 100
};

absl::Status Run(const Options& options, const LaunchShape& launch,
                 const std::function<void()>& kernel);

// Switches between fibers since this thread began.
uint64_t Switches();

// ---- For kernels/cuda/emulation/device_emulated.h alone: the calling fiber's thread.

inline constexpr int kWarpLanes = 32;
inline constexpr int kMaxWords = 12;

struct ThreadPlace {
  int thread = 0;
  int block = 0;
  int blocks = 0;
  unsigned char* shared = nullptr;
};
const ThreadPlace& Here();

void SyncBlock(const Site& site);
void SyncWarp(const Site& site);

// What a lane brings to a warp operation and what it takes away.
struct LaneWords {
  uint32_t in[kMaxWords];
  uint32_t out[4];
};
using WarpOperation = void (*)(LaneWords* lanes, int argument);

// All 32 lanes meet; the last one runs `operation` for all.
void Meet(const uint32_t* in, int num_in, uint32_t* out, int num_out, WarpOperation operation,
          int argument, const char* what, const Site& site);

// The operations that device_emulated.h needs: lane i takes word 0 of lane i ^ argument; the
// product of unsigned [16][32] and signed [32][8] bytes (the fragments of mma.m16n8k32, words
// a0..a3 b0 b1 d0..d3).
void ShuffleXorWords(LaneWords* lanes, int argument);
void MultiplyTileWords(LaneWords* lanes, int argument);

struct Copy {
  unsigned char* to = nullptr;
  const unsigned char* from = nullptr;
  int bytes = 0;
  int group = 0;
};
void QueueCopy(void* to, const void* from, int bytes, const Site& site);
void CommitCopies();
// Takes one copy that a wait leaving `leave` groups in flight must have finished.
bool TakeDueCopy(int leave, Copy* copy);

}  // namespace sheaf::kernels::cuda::emulation
