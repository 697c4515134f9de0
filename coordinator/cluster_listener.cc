#include "coordinator/cluster_listener.h"

#include <chrono>

#include "absl/strings/str_format.h"
#include "base/host_port.h"

namespace sheaf {
namespace {

// A worker's hello carries what it holds: 1.4 KB for 92 layers of 120 experts.
constexpr int kMaxMessageBytes = 4 * 1024 * 1024;

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterListener>> ClusterListener::Start(const std::string& host,
                                                                        int port,
                                                                        Coordinator& coordinator) {
  std::unique_ptr<ClusterListener> listener(new ClusterListener(coordinator));
  grpc::ServerBuilder builder;
  int bound_port = 0;
  builder.AddListeningPort(JoinHostPort(host, port), grpc::InsecureServerCredentials(),
                           &bound_port);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Peers look after their sessions every few seconds.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.RegisterService(&listener->sessions_);
  builder.RegisterService(&listener->operators_);
  listener->server_ = builder.BuildAndStart();
  if (listener->server_ == nullptr || bound_port == 0) {
    return absl::UnavailableError(
        absl::StrFormat("--cluster-port: cannot listen on %s", JoinHostPort(host, port)));
  }
  listener->address_ = JoinHostPort(host, bound_port);
  return listener;
}

ClusterListener::~ClusterListener() { Stop(Duration::zero()); }

void ClusterListener::Stop(Duration patience) {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(patience));
  server_->Wait();
  server_ = nullptr;
}

}  // namespace sheaf
