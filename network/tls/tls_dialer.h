#pragma once
// TlsDialer: TLS towards a server that is known by the name it is dialled by, for commands that ask
// a running process: the system's CAs or a file of them, a certificate of our own if the server
// wants one.
//
// Name       that the server's certificate must have: the option's, else the dialled host
//            (peer_certificate.h, "Host").
// Files      read once.
// Threads    any, after Open. Ownership: shared; credentials keep it.
// Errors     Open: kInvalidArgument naming the file.

#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/channel.h"
#include "network/tls/peer_certificate.h"
#include "network/tls/tls_material.h"

namespace sheaf {

struct TlsDialerOptions {
  TlsFiles files;           // empty cert and key: none is shown; empty ca: the system's
  std::string server_name;  // empty: the dialled host
};

class TlsDialer : public std::enable_shared_from_this<TlsDialer> {
 public:
  static absl::StatusOr<std::shared_ptr<TlsDialer>> Open(TlsDialerOptions options);

  // `address`: host:port.
  std::shared_ptr<grpc::Channel> Dial(const std::string& address);
  // The name for `host`.
  const std::string& NameFor(const std::string& host) const;
  // True: this is the server `name`. Else refusal() says why it is not.
  bool Accepts(const PeerCertificate& peer, const std::string& name);

  const TlsMaterial& material() const { return *material_; }
  bool shows_certificate() const { return !material_->cert_pem.empty(); }
  // Of the last server that was not accepted, for people; empty: none.
  std::string refusal() const;

 private:
  TlsDialer(TlsDialerOptions options, std::shared_ptr<const TlsMaterial> material)
      : options_(std::move(options)), material_(std::move(material)) {}

  const TlsDialerOptions options_;
  const std::shared_ptr<const TlsMaterial> material_;
  mutable absl::Mutex mutex_;
  std::string refusal_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf
