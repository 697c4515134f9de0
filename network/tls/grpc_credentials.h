#pragma once
// A TlsIdentity as credentials of gRPC.
//
// Checks     gRPC proves that the other end has the key of its certificate; whether the certificate
//            is welcome is decided by TlsIdentity::Accepts, so that the cause is known. A server
//            closes the connection before any call of it is served.
// Reload     a server's next handshakes, within about two seconds; a channel takes what is current
//            when its credentials are made.
// Versions   TLS 1.2 and 1.3; WantNewestTls for 1.3 alone.
// Errors     kInternal: the process cannot have a file in memory.

#include <memory>

#include "absl/status/statusor.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "network/tls/tls_identity.h"

namespace sheaf {

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> GrpcServerCredentials(
    const std::shared_ptr<TlsIdentity>& identity);

// Null: plaintext. `server`: as what the other end is dialled; where names have roles it needs that
// one.
std::shared_ptr<grpc::ChannelCredentials> GrpcChannelCredentials(
    const std::shared_ptr<TlsIdentity>& identity, PeerRole server = PeerRole::kCoordinator);

// TLS 1.3 alone on every gRPC connection of this process. gRPC has no word for it; it takes the
// ciphers of TLS 1.2 from the environment. Before the first use of gRPC and before other threads.
void WantNewestTls();

}  // namespace sheaf
