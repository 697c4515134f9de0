#pragma once
// GrpcListener: a gRPC server's port, accepted by us. gRPC's own listener gives up for ever at the
// first accept that fails, e.g. for want of a descriptor, and bounds nothing.
//
// Bounds     connections beyond max_connections, or with descriptors nearly out, are closed at
//            once; clients see UNAVAILABLE and come again in their own time.
// Counting   gRPC owns the sockets and does not say when it closes them: they are known by number
//            and inode, and looked at when the bound is reached (microseconds a connection, at most
//            every kRecount).
// TLS        with an identity: a connection that does not begin with a handshake, or with one of an
//            old version where the newest alone is wanted, is refused and reported before gRPC sees
//            it (network/tls/).
// Order      Listen, before the builder's BuildAndStart; Start after it; Stop before the server's
//            Shutdown.
// Threads    one of its own (ConnectionAcceptor), with TLS a second one (FirstBytes).

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/server_builder.h"
#include "network/connection_acceptor.h"
#include "network/tls/first_bytes.h"
#include "network/tls/tls_identity.h"

namespace sheaf {

struct GrpcListenerOptions {
  std::string name = "gRPC";  // for the log and errors
  std::string host;
  uint16_t port = 0;              // 0: any free one
  size_t max_connections = 4096;  // at least 1
  int descriptor_ceiling = 0;     // as ConnectionAcceptorOptions
  std::function<void()> on_refused = [] {};
  std::shared_ptr<TlsIdentity> tls = nullptr;  // null: plaintext
  bool newest_tls_alone = false;               // 1.3
};

class GrpcListener {
 public:
  static constexpr std::chrono::milliseconds kRecount{10};

  // Errors: kUnavailable naming the address; with TLS also GrpcServerCredentials'.
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Listen(const GrpcListenerOptions& options,
                                                              grpc::ServerBuilder& builder);

  uint16_t port() const { return acceptor_->port(); }
  void Start();
  void Stop();
  // Ends the connection of this peer (ServerContext::peer()), if it is still there. Any thread.
  void Drop(const std::string& peer);

 private:
  explicit GrpcListener(const GrpcListenerOptions& options) : options_(options) {}

  void OnConnection(int socket, bool crowded);
  void OnFirstBytes(int socket, ClientHello hello);
  void HandOver(int socket);
  bool Full();
  // Forgets those that gRPC has closed.
  void Recount() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const GrpcListenerOptions options_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> into_grpc_;
  absl::Mutex mutex_;
  // By descriptor, the inode of its socket; closed ones too.
  std::unordered_map<int, ino_t> open_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point counted_ ABSL_GUARDED_BY(mutex_){};
  // Last: their threads use the others.
  std::unique_ptr<FirstBytes> first_bytes_;  // null: plaintext
  std::unique_ptr<ConnectionAcceptor> acceptor_;
};

}  // namespace sheaf
