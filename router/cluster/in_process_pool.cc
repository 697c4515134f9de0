#include "router/cluster/in_process_pool.h"

#include <utility>

namespace sheaf {
namespace {

class InProcessPeer final : public RouterPeer {
 public:
  explicit InProcessPeer(PoolStreamEvents events) : events_(std::move(events)) {}

  void Send(const v1::ToRouter& message) override {
    absl::MutexLock lock(&mutex_);
    if (!closed_) events_.on_message(message);
  }
  void End(const absl::Status& status) override {
    absl::MutexLock lock(&mutex_);
    if (!closed_) events_.on_end(status);
    closed_ = true;
  }
  // Nothing is called back any more.
  void Close() {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

 private:
  absl::Mutex mutex_;
  const PoolStreamEvents events_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

class InProcessStream final : public PoolStream {
 public:
  InProcessStream(Coordinator& coordinator, PoolStreamEvents events)
      : coordinator_(coordinator),
        peer_(std::make_shared<InProcessPeer>(std::move(events))),
        session_(coordinator.AttachRouter(peer_)) {}
  ~InProcessStream() override {
    peer_->Close();
    coordinator_.OnClosed(session_);
  }
  bool Send(const v1::FromRouter& message) override {
    coordinator_.OnRouterMessage(session_, message);
    return true;
  }

 private:
  Coordinator& coordinator_;
  const std::shared_ptr<InProcessPeer> peer_;
  const SessionId session_;
};

}  // namespace

OpenPoolStream InProcessPool(Coordinator& coordinator) {
  return [&coordinator](PoolStreamEvents events) {
    return std::make_unique<InProcessStream>(coordinator, std::move(events));
  };
}

}  // namespace sheaf
