#include "network/tls/tls_dialer.h"

#include <ctime>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "base/host_port.h"
#include "base/status.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_certificate_verifier.h"
#include "grpcpp/security/tls_credentials_options.h"

namespace sheaf {
namespace {

namespace tls = grpc::experimental;

std::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

class Verifier final : public tls::ExternalCertificateVerifier {
 public:
  Verifier(std::shared_ptr<TlsDialer> dialer, std::string name)
      : dialer_(std::move(dialer)), name_(std::move(name)) {}

  bool Verify(tls::TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* sync_status) override {
    const PeerCertificate peer{View(request->peer_cert()), View(request->peer_cert_full_chain())};
    *sync_status = dialer_->Accepts(peer, name_)
                       ? grpc::Status::OK
                       : grpc::Status(grpc::StatusCode::UNAUTHENTICATED,
                                      "the server's certificate is not accepted");
    return true;
  }
  void Cancel(tls::TlsCustomVerificationCheckRequest*) override {}

 private:
  const std::shared_ptr<TlsDialer> dialer_;
  const std::string name_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<TlsDialer>> TlsDialer::Open(TlsDialerOptions options) {
  SHEAF_ASSIGN_OR_RETURN(
      std::shared_ptr<const TlsMaterial> material,
      ReadDialerMaterial(options.files, static_cast<int64_t>(std::time(nullptr))));
  return std::shared_ptr<TlsDialer>(new TlsDialer(std::move(options), std::move(material)));
}

std::shared_ptr<grpc::Channel> TlsDialer::Dial(const std::string& address) {
  const auto split = SplitHostPort(address);
  const std::string name = NameFor(split.ok() ? split->host : address);
  std::vector<grpc::experimental::IdentityKeyCertPair> own;
  if (shows_certificate()) own.push_back({material_->key_pem, material_->cert_pem});
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(
      std::make_shared<tls::StaticDataCertificateProvider>(material_->ca_pem, own));
  options.watch_root_certs();  // it wants something to watch
  if (!own.empty()) options.watch_identity_key_cert_pairs();
  options.set_verify_server_certs(false);  // the verifier does
  options.set_check_call_host(false);
  options.set_certificate_verifier(
      tls::ExternalCertificateVerifier::Create<Verifier>(shared_from_this(), name));
  grpc::ChannelArguments arguments;
  if (!absl::StrContains(name, ':')) {  // what the server is told, where it has several
    arguments.SetSslTargetNameOverride(name);
  }
  return grpc::CreateCustomChannel(address, tls::TlsCredentials(options), arguments);
}

const std::string& TlsDialer::NameFor(const std::string& host) const {
  return options_.server_name.empty() ? host : options_.server_name;
}

bool TlsDialer::Accepts(const PeerCertificate& peer, const std::string& name) {
  const auto refusal = RefusePeer(peer, *material_, {PeerUse::kServer, {}, name},
                                  static_cast<int64_t>(std::time(nullptr)));
  absl::MutexLock lock(&mutex_);
  refusal_ = refusal ? absl::StrFormat("the server's certificate (%s) is refused: %s",
                                       refusal->peer, refusal->what)
                     : "";
  return !refusal;
}

std::string TlsDialer::refusal() const {
  absl::MutexLock lock(&mutex_);
  return refusal_;
}

}  // namespace sheaf
