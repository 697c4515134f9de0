#include "worker/in_process_workers.h"

#include <utility>

#include "base/status.h"
#include "base/thread_pool.h"
#include "worker/serve_link.h"

namespace sheaf {
namespace {

constexpr std::chrono::seconds kOpenTimeout{10};

}  // namespace

struct InProcessWorkers::Worker {
  std::unique_ptr<WorkerLink> link;
  std::thread thread;
};

absl::StatusOr<std::unique_ptr<InProcessWorkers>> InProcessWorkers::Start(
    Transport& transport, std::vector<const ExpertSource*> sources, ExpertPlacement placement,
    int threads_each) {
  std::unique_ptr<InProcessWorkers> workers(
      new InProcessWorkers(transport, std::move(sources), std::move(placement), threads_each));
  SHEAF_RETURN_IF_ERROR(workers->OpenNext());
  return workers;
}

InProcessWorkers::InProcessWorkers(Transport& transport, std::vector<const ExpertSource*> sources,
                                   ExpertPlacement placement, int threads_each)
    : transport_(transport),
      sources_(std::move(sources)),
      placement_(std::make_shared<const ExpertPlacement>(std::move(placement))),
      threads_each_(threads_each) {}

InProcessWorkers::~InProcessWorkers() { StopWorkers(); }

void InProcessWorkers::StopWorkers() {
  for (auto& worker : workers_) worker->link->Abort(absl::CancelledError("the next epoch begins"));
  for (auto& worker : workers_) worker->thread.join();
  workers_.clear();
}

absl::Status InProcessWorkers::OpenNext() {
  StopWorkers();
  epoch_ = Epoch(epoch_.value() + 1);
  SHEAF_ASSIGN_OR_RETURN(link_, transport_.NewRouterLink(epoch_));
  std::vector<LinkPeer> peers;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const WorkerId id(static_cast<int32_t>(i));
    auto worker = std::make_unique<Worker>();
    SHEAF_ASSIGN_OR_RETURN(worker->link, transport_.NewWorkerLink(epoch_, id));
    SHEAF_RETURN_IF_ERROR(worker->link->Connect(link_->address()));
    peers.push_back({id, worker->link->address()});
    worker->thread = std::thread([this, id, link = worker->link.get(), source = sources_[i]] {
      ThreadPool pool(threads_each_);
      ExpertRunner runner(*source, pool, id);
      ServeLink(*link, runner, pool, nullptr)
          .IgnoreError();  // it ends by Abort or by the router's Close
      link->Close();
    });
    workers_.push_back(std::move(worker));
  }
  return link_->Connect(peers, std::chrono::steady_clock::now() + kOpenTimeout);
}

absl::StatusOr<OpenEpoch> InProcessWorkers::Current() {
  if (link_ == nullptr) SHEAF_RETURN_IF_ERROR(OpenNext());
  return OpenEpoch{link_, placement_};
}

void InProcessWorkers::OnFault(Epoch epoch, const LinkFault&) {
  if (epoch == epoch_) link_ = nullptr;
}

}  // namespace sheaf
