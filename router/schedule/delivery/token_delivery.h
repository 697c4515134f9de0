#pragma once
// TokenDelivery: a few threads that tell clients what the step thread has generated: detokenizing,
// stop strings, sinks. The step thread only hands over, once a step.
//
// Order      a sequence belongs to one thread (by its id), so its client is told in order; whoever
//            ends a sequence adds that behind what came before.
// Bounds     a thread may be Options::max_*_behind behind the step thread. Beyond that TooFarBehind
//            says so and the step thread should WaitUntilCaughtUp, which has no deadline and needs
//            none: sinks do not block (generation.h), and no thread here ever waits for the step
//            thread, so every wait ends. What waits is bounded by that and by what a step adds.
// Few        where a thread sleeps and there is little to tell (Options::told_here), the step
//            thread tells it itself, which costs less than the wake-up.
// No threads everything is told within Add, on the step thread: for machines of one core, and
// tests.
// Threads    public methods: the step thread. `stop_string_found` and the observer's OnTold,
//            OnFirstToken, OnNextToken and OnRequestEnd: any of the threads here, several at a
//            time.
// Ownership  borrows the observer. The destructor drains.
// Cost       Flush: a lock and at most one wake-up for each thread that has something new; or
//            telling Options::told_here tokens.

#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "router/schedule/delivery/output_teller.h"
#include "router/schedule/engine_observer.h"

namespace sheaf {

class TokenDelivery {
 public:
  struct Options {
    int threads = 1;       // >= 0
    size_t told_here = 8;  // so many tokens of a thread's sequences, without log-probabilities
    size_t max_messages_behind = 4096;
    size_t max_bytes_behind = size_t{64} << 20;  // of log-probabilities
  };

  TokenDelivery(const Options& options, EngineObserver& observer,
                std::function<void(SequenceId)> stop_string_found);
  ~TokenDelivery();
  TokenDelivery(const TokenDelivery&) = delete;
  TokenDelivery& operator=(const TokenDelivery&) = delete;

  // Told after the next Flush.
  void Add(const std::shared_ptr<OutputTeller>& to, Message message);
  void Flush();
  bool TooFarBehind();
  // Until every thread has done at least half of what it may be behind.
  void WaitUntilCaughtUp();
  // Flushes, and returns when everything was told.
  void Drain();

 private:
  struct Entry {
    std::shared_ptr<OutputTeller> to;
    Message message;
  };
  struct Amount {
    size_t messages = 0;
    size_t bytes = 0;
  };
  struct Lane {
    bool light = true;         // only tokens, without log-probabilities, were added
    std::vector<Entry> added;  // the step thread's, before Flush
    Amount added_amount;

    absl::Mutex mutex;
    absl::CondVar changed;  // something to do, or something done
    std::vector<Entry> waiting ABSL_GUARDED_BY(mutex);
    Amount behind ABSL_GUARDED_BY(mutex);  // waiting and under way
    bool idle ABSL_GUARDED_BY(mutex) = false;
    bool watched ABSL_GUARDED_BY(mutex) = false;  // the step thread waits for what is done
    bool closed ABSL_GUARDED_BY(mutex) = false;
    std::thread thread;
  };

  void Run(Lane& lane);
  // Whether it was told on this thread.
  bool ToldHere(Lane& lane);
  void Tell(Entry& entry, ToldTokens& told);
  void WaitUntil(size_t messages, size_t bytes);

  const Options options_;
  EngineObserver& observer_;
  const std::function<void(SequenceId)> stop_string_found_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace sheaf
