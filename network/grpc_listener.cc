#include "network/grpc_listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "grpcpp/security/server_credentials.h"
#include "network/tls/grpc_credentials.h"

namespace sheaf {
namespace {

// 0: it is not open.
ino_t InodeOf(int descriptor) {
  struct stat about {};
  return fstat(descriptor, &about) == 0 ? about.st_ino : 0;
}

// As gRPC writes it: "ipv4:127.0.0.1:5", "ipv6:%5B::1%5D:5".
std::string PeerOf(int descriptor) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&address), &length) != 0) return {};
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    return absl::StrFormat("ipv4:%s:%d", text, ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text, sizeof(text));
    return absl::StrFormat("ipv4:%s:%d", text, ntohs(v6.sin6_port));
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
  return absl::StrFormat("ipv6:%%5B%s%%5D:%d", text, ntohs(v6.sin6_port));
}

// A peer without its port, which is another for each connection.
std::string HostOf(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

// Resets the connection and throws away what the kernel holds of it: megabytes, of which each 200
// bytes may be a call. (shutdown would leave it to be read, and the peer sending.)
void Reset(int socket) {
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  // Fails where there is no connection any more.
  (void)connect(socket, &nobody, sizeof(nobody));
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Listen(
    const GrpcListenerOptions& options, grpc::ServerBuilder& builder) {
  std::unique_ptr<GrpcListener> listener(new GrpcListener(options));
  std::shared_ptr<grpc::ServerCredentials> credentials;
  if (options.tls != nullptr) {
    SHEAF_ASSIGN_OR_RETURN(credentials, GrpcServerCredentials(options.tls));
  } else {
    credentials = grpc::InsecureServerCredentials();
  }
  SHEAF_ASSIGN_OR_RETURN(
      listener->acceptor_,
      ConnectionAcceptor::Listen({.name = options.name,
                                  .host = options.host,
                                  .port = options.port,
                                  .descriptor_ceiling = options.descriptor_ceiling}));
  using Experimental = grpc::ServerBuilder::experimental_type;
  listener->into_grpc_ = builder.experimental().AddExternalConnectionAcceptor(
      Experimental::ExternalConnectionType::FROM_FD, credentials);
  return listener;
}

void GrpcListener::Start() {
  if (options_.tls != nullptr) {
    first_bytes_ = std::make_unique<FirstBytes>(
        [this](int socket, ClientHello hello) { OnFirstBytes(socket, hello); });
  }
  acceptor_->Start({[this](int socket, bool crowded) { OnConnection(socket, crowded); },
                    options_.on_refused});
}

void GrpcListener::Stop() {
  acceptor_->Stop();
  if (first_bytes_ != nullptr) first_bytes_->Stop();
}

void GrpcListener::OnConnection(int socket, bool crowded) {
  if (crowded || Full()) {
    close(socket);
    return options_.on_refused();
  }
  {
    absl::MutexLock lock(&mutex_);
    open_[socket] = InodeOf(socket);
  }
  if (first_bytes_ != nullptr) {
    first_bytes_->Add(socket);
  } else {
    HandOver(socket);
  }
}

void GrpcListener::OnFirstBytes(int socket, ClientHello hello) {
  const bool tls = hello != ClientHello::kNoTls;
  if (tls && !(hello == ClientHello::kOld && options_.newest_tls_alone)) return HandOver(socket);
  options_.tls->report().Refused(
      options_.tls->listener(), tls ? TlsRefusal::kOldVersion : TlsRefusal::kPlaintext,
      HostOf(PeerOf(socket)),
      tls ? "TLS 1.2 or older where 1.3 is wanted" : "plaintext where TLS is wanted");
  close(socket);
  options_.on_refused();
}

void GrpcListener::HandOver(int socket) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.fd = socket;
  into_grpc_->HandleNewConnection(&connection);
}

bool GrpcListener::Full() {
  absl::MutexLock lock(&mutex_);
  if (open_.size() < options_.max_connections) return false;
  const auto now = std::chrono::steady_clock::now();
  if (now - counted_ < kRecount) return true;
  counted_ = now;
  Recount();
  return open_.size() >= options_.max_connections;
}

void GrpcListener::Recount() {
  std::erase_if(open_, [](const auto& entry) { return InodeOf(entry.first) != entry.second; });
}

void GrpcListener::Drop(const std::string& peer) {
  absl::MutexLock lock(&mutex_);
  Recount();
  for (const auto& [descriptor, inode] : open_) {
    // gRPC, which owns it, finds that nothing can be read any more and closes it.
    if (PeerOf(descriptor) == peer) Reset(descriptor);
  }
}

}  // namespace sheaf
