#include "worker/compute_thread.h"

#include <utility>

namespace sheaf {

ComputeThread::ComputeThread(int num_threads, SliceLoader loader, ComputeEvents& events,
                             ServeObserver* observer)
    : num_threads_(num_threads),
      loader_(std::move(loader)),
      events_(events),
      observer_(observer),
      thread_([this] { Run(); }) {}

ComputeThread::~ComputeThread() { Stop(); }

void ComputeThread::Push(std::optional<Task> task) {
  std::shared_ptr<WorkerLink> serving;
  {
    std::lock_guard lock(mutex_);
    next_ = std::move(task);
    serving = serving_;
  }
  wake_.notify_one();
  if (serving != nullptr) serving->Abort(absl::CancelledError("the worker has another task"));
}

void ComputeThread::Load(uint64_t load, std::vector<LayerExpert> experts) {
  Task task;
  task.load = load;
  task.experts = std::move(experts);
  Push(std::move(task));
}

void ComputeThread::Serve(std::shared_ptr<WorkerLink> link, WorkerId self) {
  Task task;
  task.serve = std::move(link);
  task.self = self;
  Push(std::move(task));
}

void ComputeThread::Idle() { Push(std::nullopt); }

void ComputeThread::Stop() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  Push(std::nullopt);
  thread_.join();
}

void ComputeThread::Run() {
  pool_ = std::make_unique<ThreadPool>(num_threads_);
  for (;;) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      serving_ = nullptr;
      wake_.wait(lock, [&] { return stopping_ || next_.has_value(); });
      if (stopping_) return;
      task = *std::exchange(next_, std::nullopt);
      serving_ = task.serve;
    }
    if (task.experts.has_value()) RunLoad(task.load, *std::move(task.experts));
    if (task.serve != nullptr) RunServe(*task.serve, task.self);
  }
}

void ComputeThread::RunLoad(uint64_t load, std::vector<LayerExpert> experts) {
  if (slice_ == nullptr || held_ != experts) {
    slice_ = nullptr;  // first, so that two slices are never held
    held_.clear();
    absl::StatusOr<std::unique_ptr<LoadedSlice>> slice = loader_(
        experts, *pool_, [&](size_t done, size_t total) { events_.OnLoadProgress(done, total); });
    pool_->Park();
    if (!slice.ok()) {
      events_.OnLoaded(load, slice.status());
      return;
    }
    slice_ = *std::move(slice);
    held_ = std::move(experts);
  }
  events_.OnLoaded(load, SliceFacts{slice_->num_experts(), slice_->resident_bytes()});
}

void ComputeThread::RunServe(WorkerLink& link, WorkerId self) {
  absl::Status ended = absl::FailedPreconditionError("no slice is loaded");
  if (slice_ != nullptr) {
    ExpertRunner runner(*slice_, *pool_, self);
    ended = ServeLink(link, runner, *pool_, observer_);
  }
  link.Close();
  events_.OnLinkEnded(link.epoch(), ended);
}

}  // namespace sheaf
