#include "network/tls/grpc_credentials.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/unique_fd.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_certificate_verifier.h"
#include "grpcpp/security/tls_credentials_options.h"

namespace sheaf {
namespace {

namespace tls = grpc::experimental;

// Key and certificate in one file in memory, for gRPC's file watcher: it reads the file twice, and
// again when its time (whole seconds) differs before and after. Each version replaces the other at
// once and has a time of its own, so that it never sees two halves.
class PemInMemory {
 public:
  // False: the kernel refuses.
  bool Write(const TlsMaterial& material) {
    UniqueFd next(memfd_create("sheaf-tls", MFD_CLOEXEC));
    const std::string text = material.key_pem + "\n" + material.cert_pem;
    if (!next.valid() ||
        write(next.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      return false;
    }
    const timespec times[2] = {{++version_, 0}, {version_, 0}};
    if (futimens(next.get(), times) != 0) return false;
    if (!file_.valid()) {
      file_ = std::move(next);
      return true;
    }
    return dup3(next.get(), file_.get(), O_CLOEXEC) >= 0;
  }
  std::string path() const { return absl::StrFormat("/proc/self/fd/%d", file_.get()); }

 private:
  UniqueFd file_;
  time_t version_ = 1'000'000'000;
};

std::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

// gRPC calls it after the handshake, before the connection is used.
class Verifier final : public tls::ExternalCertificateVerifier {
 public:
  // `pem` (or null) lives as long as the credentials.
  Verifier(std::shared_ptr<TlsIdentity> identity, PeerUse use, PeerRole server,
           std::shared_ptr<PemInMemory> pem)
      : identity_(std::move(identity)), use_(use), server_(server), pem_(std::move(pem)) {}

  bool Verify(tls::TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* sync_status) override {
    const grpc::string_ref leaf = request->peer_cert();
    const grpc::string_ref chain = request->peer_cert_full_chain();
    *sync_status = Accepts({View(leaf), View(chain)})
                       ? grpc::Status::OK
                       : grpc::Status(grpc::StatusCode::UNAUTHENTICATED,
                                      "the certificate of the other end is not accepted");
    return true;
  }
  void Cancel(tls::TlsCustomVerificationCheckRequest*) override {}

 private:
  bool Accepts(const PeerCertificate& peer) const {
    if (use_ == PeerUse::kClient || server_ == PeerRole::kCoordinator) {
      return identity_->Accepts(peer, use_);
    }
    const auto refusal = RefusePeer(peer, *identity_->current(), {use_}, std::time(nullptr));
    if (!refusal) return identity_->CheckRole(peer.leaf_pem, {server_}).ok();
    identity_->report().Refused(identity_->listener(), refusal->cause, refusal->peer,
                                refusal->what);
    return false;
  }

  const std::shared_ptr<TlsIdentity> identity_;
  const PeerUse use_;
  const PeerRole server_;  // of a server
  const std::shared_ptr<PemInMemory> pem_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> GrpcServerCredentials(
    const std::shared_ptr<TlsIdentity>& identity) {
  const auto pem = std::make_shared<PemInMemory>();
  if (!pem->Write(*identity->current())) {
    return absl::InternalError("TLS: the certificate cannot be held in memory (memfd_create)");
  }
  const auto provider =
      std::make_shared<tls::FileWatcherCertificateProvider>(pem->path(), pem->path(), 1);
  tls::TlsServerCredentialsOptions options(provider);
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(identity->wants_peer_certificate()
                                    ? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY
                                    : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  options.set_certificate_verifier(
      tls::ExternalCertificateVerifier::Create<Verifier>(identity, PeerUse::kClient,
                                                           PeerRole::kCoordinator, pem));
  std::shared_ptr<grpc::ServerCredentials> made = tls::TlsServerCredentials(options);
  if (made == nullptr) return absl::InternalError("TLS: gRPC refuses the credentials");
  identity->Subscribe(pem, [raw = pem.get()](const TlsMaterial& now) { (void)raw->Write(now); });
  return made;
}

std::shared_ptr<grpc::ChannelCredentials> GrpcChannelCredentials(
    const std::shared_ptr<TlsIdentity>& identity, PeerRole server) {
  if (identity == nullptr) return grpc::InsecureChannelCredentials();
  const std::shared_ptr<const TlsMaterial> material = identity->current();
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(std::make_shared<tls::StaticDataCertificateProvider>(
      material->ca_pem,
      std::vector<tls::IdentityKeyCertPair>{{material->key_pem, material->cert_pem}}));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_verify_server_certs(false);  // the verifier does
  options.set_check_call_host(false);      // names are compared with the list
  options.set_certificate_verifier(tls::ExternalCertificateVerifier::Create<Verifier>(
      identity, PeerUse::kServer, server, nullptr));
  return tls::TlsCredentials(options);
}

void WantNewestTls() {
  // A cipher that needs a shared secret, which nobody has: none of TLS 1.2 is left.
  setenv("GRPC_SSL_CIPHER_SUITES", "PSK-AES256-GCM-SHA384", /*overwrite=*/1);
}

}  // namespace sheaf
