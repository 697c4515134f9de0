#pragma once
// ComputeThread: the worker's one thread that loads slices and serves links, with its pool. What is
// asked last wins: a new task aborts the link being served.
//
//   Load(experts)  drop the slice unless it is the same, load, report OnLoaded
//   Serve(link)    ServeLink until it ends, report OnLinkEnded
//
// Threads    Load, Serve, Idle, Stop: one owner thread. Events come from the compute thread
//            (progress also from loading threads) and must not block.
// Ownership  borrows loader, events and metrics; they outlive it.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "exchange/transport.h"
#include "worker/serve_link.h"
#include "worker/slice_loader.h"

namespace sheaf {

struct SliceFacts {
  size_t num_experts = 0;
  size_t resident_bytes = 0;
};

class ComputeEvents {
 public:
  virtual ~ComputeEvents() = default;
  virtual void OnLoadProgress(size_t done_bytes, size_t total_bytes) = 0;
  virtual void OnLoaded(uint64_t load, absl::StatusOr<SliceFacts> facts) = 0;
  virtual void OnLinkEnded(Epoch epoch, const absl::Status& why) = 0;
};

class ComputeThread {
 public:
  ComputeThread(int num_threads, SliceLoader loader, ComputeEvents& events,
                ServeObserver* observer);
  ~ComputeThread();  // Stop

  // `load` comes back in OnLoaded.
  void Load(uint64_t load, std::vector<LayerExpert> experts);
  void Serve(std::shared_ptr<WorkerLink> link, WorkerId self);
  void Idle();  // stop serving
  // Returns when the thread has ended; a load under way is waited for.
  void Stop();

 private:
  struct Task {
    std::optional<std::vector<LayerExpert>> experts;  // to load
    uint64_t load = 0;
    std::shared_ptr<WorkerLink> serve;
    WorkerId self;
  };
  void Push(std::optional<Task> task);
  void Run();
  void RunLoad(uint64_t load, std::vector<LayerExpert> experts);
  void RunServe(WorkerLink& link, WorkerId self);

  const int num_threads_;
  const SliceLoader loader_;
  ComputeEvents& events_;
  ServeObserver* const observer_;

  // The compute thread only.
  std::unique_ptr<ThreadPool> pool_;
  std::vector<LayerExpert> held_;
  std::unique_ptr<LoadedSlice> slice_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::optional<Task> next_;             // guarded by mutex_
  std::shared_ptr<WorkerLink> serving_;  // guarded by mutex_
  bool stopping_ = false;                // guarded by mutex_
  std::thread thread_;
};

}  // namespace sheaf
