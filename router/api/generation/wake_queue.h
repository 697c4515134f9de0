#pragma once
// WakeQueue is the thread that stands between the engine's step thread and the network: the step
// thread says "this call has something new" and goes on; this thread tells the call's face.
//
// Threads    Push: any thread, one short lock. Wakeable::OnWake is called on the queue's thread,
//            one at a time.
// Bounds     A Wakeable is queued at most once (its own duty: see GenerationCall), so the queue
//            holds no more entries than there are calls.
// Ownership  An entry keeps its Wakeable alive until it was called; the destructor drops what is
//            queued.

#include <deque>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace sheaf {

class Wakeable {
 public:
  virtual ~Wakeable() = default;
  virtual void OnWake() = 0;
};

class WakeQueue {
 public:
  WakeQueue();
  ~WakeQueue();
  WakeQueue(const WakeQueue&) = delete;
  WakeQueue& operator=(const WakeQueue&) = delete;

  void Push(std::shared_ptr<Wakeable> wakeable);

 private:
  void Run();

  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::deque<std::shared_ptr<Wakeable>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace sheaf
