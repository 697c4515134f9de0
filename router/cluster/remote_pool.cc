#include "router/cluster/remote_pool.h"

#include <grpcpp/grpcpp.h>

#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "network/tls/grpc_credentials.h"
#include "sheaf/v1/pool.grpc.pb.h"

namespace sheaf {
namespace {

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address,
                                          const std::shared_ptr<TlsIdentity>& tls,
                                          Duration kept_alive) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(kept_alive).count();
  grpc::ChannelArguments arguments;
  // The client has a back-off of its own; a shared subchannel would add gRPC's.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(ms));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(ms));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return grpc::CreateCustomChannel(address, GrpcChannelCredentials(tls), arguments);
}

class RemoteStream final : public PoolStream {
 public:
  RemoteStream(const std::string& address, const std::shared_ptr<TlsIdentity>& tls,
               Duration kept_alive, PoolStreamEvents events)
      : events_(std::move(events)),
        stub_(v1::Coordinator::NewStub(NewChannel(address, tls, kept_alive))),
        stream_(stub_->RouterSession(&context_)),
        reader_([this] { Read(); }) {}
  ~RemoteStream() override {
    context_.TryCancel();
    reader_.join();
  }

  bool Send(const v1::FromRouter& message) override {
    absl::MutexLock lock(&mutex_);
    return !finished_ && stream_->Write(message);
  }

 private:
  void Read() {
    v1::ToRouter message;
    while (stream_->Read(&message)) events_.on_message(std::move(message));
    grpc::Status status;
    {
      // A broken stream's Write returns; none comes after Finish.
      absl::MutexLock lock(&mutex_);
      finished_ = true;
      status = stream_->Finish();
    }
    events_.on_end(
        absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message()));
  }

  const PoolStreamEvents events_;
  grpc::ClientContext context_;
  const std::unique_ptr<v1::Coordinator::Stub> stub_;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::FromRouter, v1::ToRouter>> stream_;
  absl::Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread reader_;
};

}  // namespace

OpenPoolStream RemotePool(std::string address, std::shared_ptr<TlsIdentity> tls,
                          Duration kept_alive) {
  return [address = std::move(address), tls = std::move(tls), kept_alive](PoolStreamEvents events) {
    return std::make_unique<RemoteStream>(address, tls, kept_alive, std::move(events));
  };
}

}  // namespace sheaf
