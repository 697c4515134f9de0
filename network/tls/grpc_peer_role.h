#pragma once
// Whether the other end of a gRPC call may act in a role, by the certificate that it showed.
//
// Threads    any. Errors: as TlsIdentity::CheckRole.

#include <initializer_list>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "network/tls/tls_identity.h"

namespace sheaf {

// OK without an identity: nobody shows certificates then.
absl::Status CheckPeerRole(const TlsIdentity* tls, const grpc::ServerContextBase& context,
                           std::initializer_list<PeerRole> roles);

}  // namespace sheaf
