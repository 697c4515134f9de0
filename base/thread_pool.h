#pragma once
// ThreadPool runs one data-parallel loop at a time on a fixed set of threads, the caller among
// them.
//
// A model step is hundreds of short loops. Waking a sleeping thread costs tens of microseconds, so
// after a loop the pool's threads keep spinning for the next one; Park() sends them to sleep at
// once, and the owner calls it before it waits for something that needs their cores (the next
// request; a worker that shares them), because a spinner holds the core that the awaited peer
// needs.
//
// Work distribution is dynamic (an atomic cursor): results must not depend on which thread runs an
// item. A loop too small to share (its cost, below) runs on the caller alone.
//
// Waiting    a loop waits for the threads that entered it, and for no other: one that the machine
//            does not run, or that comes late, delays nobody. One atomic word holds the loop's
//            number, whether it is open and how many pool threads are inside. The owner opens it
//            with a new number (release), a thread enters by compare-and-swap while it is open
//            (acquire: it sees the loop's function and context), leaves by subtraction (release)
//            and the owner closes it before it waits for the count to become 0 (acquire: it sees
//            what the items wrote). After the close nobody enters, so nobody reads function,
//            context or cursor while the owner writes the next loop's; a thread that finds a loop
//            closed waits for the next.
// Lookout    while one is set, the owner's thread asks it between its items of a loop of 1 ms or
//            more, and while it waits for the others'. Its answer can cut the loop: items not begun
//            are left out, and so are those of all loops until the lookout is set anew; what the
//            loop was to write is undefined then.
// Threads    ParallelFor, Park, SetLookout: one owner thread at a time. `body` must not throw nor
//            call the pool, and neither must a lookout.
// Ownership  `body` is borrowed for the duration of the call, a lookout while it is set.
// Cost       about 1 us a loop while the threads spin; a futex wake-up after Park() or spin_limit.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace sheaf {

// What one item of a loop takes, roughly, on one core.
struct ItemCost {
  int64_t nanoseconds = 0;
};

// Of an item of so many multiply-adds or element operations of the kernels.
constexpr ItemCost CostOfMultiplyAdds(int64_t count) { return {count / 16 + 1}; }
constexpr ItemCost CostOfElements(int64_t count) { return {count / 2 + 1}; }

class ThreadPool {
 public:
  class Lookout {
   public:
    virtual ~Lookout() = default;
    // True: nobody wants what the loop computes any more.
    virtual bool Look() = 0;
  };

  // num_threads counts the caller: 1 means no extra thread. Spinning ends after spin_limit without
  // work.
  explicit ThreadPool(int num_threads,
                      std::chrono::microseconds spin_limit = std::chrono::microseconds(200));
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls body(item, thread) for every item in [0, num_items), thread in [0, num_threads());
  // returns when all are done. Where the whole loop costs less than sharing it would, on this
  // thread.
  template <typename Body>
  void ParallelFor(int64_t num_items, ItemCost cost, const Body& body) {
    const int64_t nanoseconds = num_items * cost.nanoseconds;
    Lookout* const lookout = nanoseconds >= kLongLoopNanoseconds ? lookout_ : nullptr;
    if (threads_.empty() || num_items <= 1 || nanoseconds < kWorthSharingNanoseconds) {
      for (int64_t item = 0; item < num_items && !IsCut(lookout); ++item) body(item, 0);
      return;
    }
    Run(
        num_items,
        [](const void* context, int64_t item, int thread) {
          (*static_cast<const Body*>(context))(item, thread);
        },
        &body, lookout);
  }
  // Of items whose cost is not known: always shared.
  template <typename Body>
  void ParallelFor(int64_t num_items, const Body& body) {
    ParallelFor(num_items, ItemCost{kWorthSharingNanoseconds}, body);
  }

  // The pool's threads stop spinning and sleep until the next loop.
  void Park();

  // Null: none. Between loops.
  void SetLookout(Lookout* lookout);
  // Whether a loop was cut since the lookout was set.
  bool cut() const { return cut_; }

 private:
  using Function = void (*)(const void* context, int64_t item, int thread);

  // About ten times what a loop costs that finds all threads spinning.
  static constexpr int64_t kWorthSharingNanoseconds = 10'000;
  static constexpr int64_t kLongLoopNanoseconds = 1'000'000;

  // loop_: number of the loop, open or not, pool threads inside.
  static constexpr uint64_t kInside = 0xffff;
  static constexpr uint64_t kOpen = 0x10000;
  static constexpr uint64_t kNumber = 0x20000;

  bool IsCut(Lookout* lookout) {
    if (lookout != nullptr && !cut_) cut_ = lookout->Look();
    return cut_;
  }
  void Run(int64_t num_items, Function function, const void* context, Lookout* lookout);
  void Wake(int64_t num_threads);
  void WorkerLoop(int thread);
  void WaitForNumberPast(uint64_t number);
  bool Enter(uint64_t& number);
  void DrainItems(int thread);

  const std::chrono::microseconds spin_limit_;
  std::vector<std::thread> threads_;

  // Of the owner.
  Lookout* lookout_ = nullptr;
  bool cut_ = false;

  // Of one loop: written by the owner while it is closed and empty.
  Function function_ = nullptr;
  const void* context_ = nullptr;
  int64_t num_items_ = 0;
  alignas(64) std::atomic<int64_t> cursor_{0};
  alignas(64) std::atomic<uint64_t> loop_{0};
  alignas(64) std::atomic<bool> parked_{false};
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
};

}  // namespace sheaf
