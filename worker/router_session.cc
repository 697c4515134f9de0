#include "worker/router_session.h"

#include <utility>

namespace sheaf {
namespace {

std::shared_ptr<grpc::Channel> NewChannel(const std::string& router) {
  grpc::ChannelArguments arguments;
  // The worker has a back-off of its own; a shared subchannel would add gRPC's.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(router, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

RouterSession::RouterSession(const std::string& router, Callbacks callbacks)
    : callbacks_(std::move(callbacks)),
      channel_(NewChannel(router)),
      stub_(v1::Cluster::NewStub(channel_)),
      stream_(stub_->Session(&context_)),
      reader_([this] {
        v1::RouterMessage message;
        while (stream_->Read(&message)) callbacks_.on_message(std::move(message));
        ended_ = true;
        callbacks_.on_end();
      }) {}

RouterSession::~RouterSession() { Close().IgnoreError(); }

bool RouterSession::Send(const v1::WorkerMessage& message) {
  return !closed_ && stream_->Write(message);
}

absl::Status RouterSession::Close() {
  if (closed_) return status_;
  closed_ = true;
  // Cancelling would hide the status that it ended with.
  if (!ended_) context_.TryCancel();
  reader_.join();
  const grpc::Status status = stream_->Finish();
  status_ =
      absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  return status_;
}

}  // namespace sheaf
