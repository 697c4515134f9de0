#pragma once
// HttpTls: a TlsIdentity for HTTP connections: contexts of OpenSSL for those that come from now on,
// and the check of who came.
//
// Versions   TLS 1.2 and 1.3; ALPN http/1.1.
// Threads    any.

#include <memory>

// clang-format off
#include <utility>  // before Asio: its 1.74 uses std::exchange without it
#include <boost/asio/ssl/context.hpp>
// clang-format on

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "network/tls/tls_identity.h"

namespace sheaf {

class HttpTls {
 public:
  explicit HttpTls(std::shared_ptr<TlsIdentity> identity) : identity_(std::move(identity)) {}

  // Of the identity's current certificate; made when that has changed.
  std::shared_ptr<boost::asio::ssl::context> Context();
  // After the handshake: whether the client's certificate, if one is wanted, is accepted.
  bool Accepts(SSL& session) const;
  // A handshake that OpenSSL ended; others (a client that left) are no news.
  void HandshakeFailed(const boost::system::error_code& error, const std::string& peer) const;

 private:
  const std::shared_ptr<TlsIdentity> identity_;
  absl::Mutex mutex_;
  std::shared_ptr<const TlsMaterial> made_of_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<boost::asio::ssl::context> context_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf
