#include "worker/session/coordinator_session.h"

#include <grpcpp/grpcpp.h>

#include <deque>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "network/tls/grpc_credentials.h"

namespace sheaf {
namespace {

std::shared_ptr<grpc::Channel> NewChannel(const std::string& coordinator,
                                          const std::shared_ptr<TlsIdentity>& tls) {
  grpc::ChannelArguments arguments;
  // The worker has a back-off of its own; a shared subchannel would add gRPC's.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(coordinator, GrpcChannelCredentials(tls), arguments);
}

}  // namespace

class CoordinatorSession::Stream final
    : public grpc::ClientBidiReactor<v1::FromWorker, v1::ToWorker> {
 public:
  Stream(v1::Coordinator::Stub& stub, Callbacks callbacks) : callbacks_(std::move(callbacks)) {
    stub.async()->WorkerSession(&context_, this);
    AddHold();  // for the writes, which do not come from a callback
    StartRead(&incoming_);
    StartCall();
  }

  void Send(v1::FromWorker message) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (closed_) return;
      if (unsent_.size() >= kMaxUnsent) {
        context_.TryCancel();
        return;
      }
      unsent_.push_back(std::move(message));
    }
    WriteNext();
  }

  void Cancel() { context_.TryCancel(); }
  void WaitDone() { done_.WaitForNotification(); }

  void OnReadDone(bool ok) override {
    if (ok) {
      callbacks_.on_message(std::move(incoming_), std::chrono::steady_clock::now());
      incoming_.Clear();
      StartRead(&incoming_);
      return;
    }
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }
    RemoveHold();
  }

  void OnWriteDone(bool /*ok*/) override {  // a broken stream shows up in reading
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      unsent_.pop_front();
    }
    WriteNext();
  }

  void OnDone(const grpc::Status& status) override {
    callbacks_.on_end(
        absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message()),
        std::chrono::steady_clock::now());
    done_.Notify();
  }

 private:
  void WriteNext() ABSL_LOCKS_EXCLUDED(mutex_) {
    const v1::FromWorker* next = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      if (closed_ || writing_ || unsent_.empty()) return;
      writing_ = true;
      next = &unsent_.front();
      // Until the write has been started, the stream must not end: closing waits for it here.
      AddHold();
    }
    StartWrite(next);  // may call OnWriteDone in here: no lock is held
    RemoveHold();
  }

  const Callbacks callbacks_;
  grpc::ClientContext context_;
  v1::ToWorker incoming_;
  absl::Notification done_;

  absl::Mutex mutex_;
  std::deque<v1::FromWorker> unsent_ ABSL_GUARDED_BY(mutex_);  // front: being written
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

CoordinatorSession::CoordinatorSession(const std::string& coordinator,
                                       const std::shared_ptr<TlsIdentity>& tls,
                                       Callbacks callbacks)
    : stub_(v1::Coordinator::NewStub(NewChannel(coordinator, tls))),
      stream_(std::make_unique<Stream>(*stub_, std::move(callbacks))) {}

CoordinatorSession::~CoordinatorSession() {
  stream_->Cancel();
  stream_->WaitDone();
}

void CoordinatorSession::Send(v1::FromWorker message) { stream_->Send(std::move(message)); }

}  // namespace sheaf
