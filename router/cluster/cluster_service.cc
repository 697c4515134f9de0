#include "router/cluster/cluster_service.h"

#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace sheaf {
namespace {

// A worker that reads nothing is cut off rather than remembered.
constexpr size_t kMaxUnsent = 256;

grpc::Status ToGrpc(const absl::Status& status) {
  // absl's codes are gRPC's.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

class SessionReactor;

// What the controller holds: outlives the reactor, which gRPC ends in its own time.
class StreamSession final : public WorkerSession {
 public:
  explicit StreamSession(SessionReactor* reactor) : reactor_(reactor) {}

  void Send(v1::RouterMessage message) override;
  void End(const absl::Status& status) override;
  void OnWritten(bool ok);

 private:
  // gRPC may call OnWriteDone from inside StartWrite, so the lock is not held over it. The reactor
  // is alive as long as Finish has not been called, and `writing_` keeps everyone else from calling
  // that.
  struct Action {
    const v1::RouterMessage* write = nullptr;
    std::optional<grpc::Status> finish;
  };
  Action NextAction();  // with mutex_ held
  void Do(const Action& action);

  std::mutex mutex_;
  SessionReactor* const reactor_;
  std::deque<v1::RouterMessage> unsent_;  // guarded by mutex_; front: being written
  bool writing_ = false;                  // guarded by mutex_
  bool ending_ = false;                   // guarded by mutex_
  bool finished_ = false;                 // guarded by mutex_
  absl::Status end_status_;               // guarded by mutex_
};

class SessionReactor final : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::RouterMessage> {
 public:
  explicit SessionReactor(ClusterController& controller)
      : controller_(controller), session_(std::make_shared<StreamSession>(this)) {
    controller_.OnOpened(session_);
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      controller_.OnClosed(session_);
      session_->End(absl::OkStatus());
      return;
    }
    controller_.OnMessage(session_, std::move(incoming_));
    incoming_.Clear();
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override { session_->OnWritten(ok); }
  void OnCancel() override { controller_.OnClosed(session_); }
  void OnDone() override { delete this; }

 private:
  ClusterController& controller_;
  const std::shared_ptr<StreamSession> session_;
  v1::WorkerMessage incoming_;
};

StreamSession::Action StreamSession::NextAction() {
  if (writing_ || finished_) return {};
  if (!unsent_.empty()) {
    writing_ = true;
    return {&unsent_.front(), std::nullopt};
  }
  if (!ending_) return {};
  finished_ = true;
  return {nullptr, ToGrpc(end_status_)};
}

void StreamSession::Do(const Action& action) {
  if (action.write != nullptr) reactor_->StartWrite(action.write);
  if (action.finish.has_value()) reactor_->Finish(*action.finish);
}

void StreamSession::Send(v1::RouterMessage message) {
  Action action;
  {
    std::lock_guard lock(mutex_);
    if (ending_) return;
    unsent_.push_back(std::move(message));
    if (unsent_.size() > kMaxUnsent) {
      ending_ = true;
      end_status_ = absl::AbortedError("the worker does not read");
    }
    action = NextAction();
  }
  Do(action);
}

void StreamSession::End(const absl::Status& status) {
  Action action;
  {
    std::lock_guard lock(mutex_);
    if (ending_) return;
    ending_ = true;
    end_status_ = status;
    action = NextAction();
  }
  Do(action);
}

void StreamSession::OnWritten(bool ok) {
  Action action;
  {
    std::lock_guard lock(mutex_);
    writing_ = false;
    unsent_.pop_front();
    if (!ok) {  // the stream is broken
      unsent_.clear();
      ending_ = true;
    }
    action = NextAction();
  }
  Do(action);
}

v1::WorkerStatus::State ToProto(SlotState state) {
  switch (state) {
    case SlotState::kVacant:
      return v1::WorkerStatus::VACANT;
    case SlotState::kLoading:
      return v1::WorkerStatus::LOADING;
    case SlotState::kReady:
      return v1::WorkerStatus::READY;
  }
  return v1::WorkerStatus::STATE_UNSPECIFIED;
}

}  // namespace

grpc::ServerBidiReactor<v1::WorkerMessage, v1::RouterMessage>* ClusterService::Session(
    grpc::CallbackServerContext*) {
  return new SessionReactor(controller_);  // deletes itself in OnDone
}

grpc::ServerUnaryReactor* ClusterService::GetClusterStatus(grpc::CallbackServerContext* context,
                                                           const v1::GetClusterStatusRequest*,
                                                           v1::ClusterStatus* response) {
  const ClusterSnapshot snapshot = controller_.snapshot();
  response->set_ready(snapshot.ready);
  response->set_epoch(snapshot.epoch.value());
  response->set_text(snapshot.text);
  for (size_t i = 0; i < snapshot.slots.size(); ++i) {
    const Slot& slot = snapshot.slots[i];
    v1::WorkerStatus& worker = *response->add_workers();
    worker.set_slot(static_cast<int32_t>(i));
    worker.set_state(ToProto(slot.state));
    worker.set_instance(slot.member.instance);
    worker.set_pid(slot.member.pid);
    worker.set_host(slot.member.host);
    worker.set_loaded_bytes(slot.loaded_bytes);
    worker.set_slice_bytes(slot.slice_bytes);
    worker.set_metrics_address(slot.member.metrics_address);
    worker.set_last_loss(slot.last_loss);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace sheaf
