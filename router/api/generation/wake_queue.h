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

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

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

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Wakeable>> queue_;  // guarded by mutex_
  bool stopping_ = false;                        // guarded by mutex_
  std::thread thread_;
};

}  // namespace sheaf
