#pragma once
// StreamPeer: a Peer over one gRPC stream, and the reactor that feeds the coordinator from it. The
// peer outlives the reactor, which gRPC ends in its own time.
//
// Bounds     a peer that reads nothing is cut off rather than remembered: kMaxUnsent messages.
// Threads    gRPC's and the coordinator's.

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/peer.h"
#include "coordinator/pool_member.h"
#include "network/write_turns.h"

namespace sheaf {

inline grpc::Status ToGrpc(const absl::Status& status) {
  // absl's codes are gRPC's.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

template <typename From, typename To>
class SessionReactor;

template <typename From, typename To>
class StreamPeer final : public Peer<To> {
 public:
  explicit StreamPeer(SessionReactor<From, To>* reactor) : reactor_(reactor) {}

  void Send(const To& message) override {
    Action action;
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) return;
      unsent_.push_back(message);
      if (unsent_.size() > kMaxUnsent) {
        ending_ = true;
        end_status_ = absl::AbortedError("it does not read");
        // What is being written stays: gRPC reads it.
        unsent_.resize(turns_.writing() ? 1 : 0);
      }
      action = NextAction();
    }
    Do(action);
  }

  void End(const absl::Status& status) override {
    Action action;
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) return;
      ending_ = true;
      end_status_ = status;
      action = NextAction();
    }
    Do(action);
  }

  void OnWritten(bool ok) {
    Action action;
    {
      absl::MutexLock lock(&mutex_);
      turns_.Written();
      unsent_.pop_front();
      if (!ok) {  // the stream is broken
        unsent_.clear();
        ending_ = true;
      }
      action = NextAction();
    }
    Do(action);
  }

 private:
  static constexpr size_t kMaxUnsent = 1024;

  struct Action {
    const To* write = nullptr;
    std::optional<grpc::Status> finish;
  };
  Action NextAction() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    switch (turns_.Next(!unsent_.empty(), ending_)) {
      case WriteTurns::Turn::kWrite:
        return {&unsent_.front(), std::nullopt};
      case WriteTurns::Turn::kFinish:
        return {nullptr, ToGrpc(end_status_)};
      case WriteTurns::Turn::kNone:
        break;
    }
    return {};
  }
  void Do(const Action& action) {
    if (action.write != nullptr) reactor_->StartWrite(action.write);
    if (action.finish.has_value()) reactor_->Finish(*action.finish);
  }

  absl::Mutex mutex_;
  SessionReactor<From, To>* const reactor_;
  std::deque<To> unsent_ ABSL_GUARDED_BY(mutex_);  // front: being written
  WriteTurns turns_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
};

// Deletes itself when gRPC is done with it.
template <typename From, typename To>
class SessionReactor final : public grpc::ServerBidiReactor<From, To> {
 public:
  struct Callbacks {
    std::function<SessionId(std::shared_ptr<Peer<To>>)> attach;
    std::function<void(SessionId, From)> message;
    std::function<void(SessionId)> closed;
  };

  explicit SessionReactor(Callbacks callbacks)
      : callbacks_(std::move(callbacks)),
        peer_(std::make_shared<StreamPeer<From, To>>(this)),
        session_(callbacks_.attach(peer_)) {
    this->StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      callbacks_.closed(session_);  // which ends it
      return;
    }
    callbacks_.message(session_, std::move(incoming_));
    incoming_.Clear();
    this->StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override { peer_->OnWritten(ok); }
  void OnCancel() override { callbacks_.closed(session_); }
  void OnDone() override { delete this; }

 private:
  const Callbacks callbacks_;
  const std::shared_ptr<StreamPeer<From, To>> peer_;
  const SessionId session_;
  From incoming_;
};

}  // namespace sheaf
