#include "network/tls/grpc_peer_role.h"

#include <grpc/grpc_security_constants.h>

#include <string_view>
#include <vector>

namespace sheaf {

absl::Status CheckPeerRole(const TlsIdentity* tls, const grpc::ServerContextBase& context,
                           std::initializer_list<PeerRole> roles) {
  if (tls == nullptr) return absl::OkStatus();
  const auto about = context.auth_context();
  std::vector<grpc::string_ref> pem;
  if (about != nullptr) pem = about->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  return tls->CheckRole(pem.empty() ? std::string_view()
                                    : std::string_view(pem.front().data(), pem.front().size()),
                        roles);
}

}  // namespace sheaf
