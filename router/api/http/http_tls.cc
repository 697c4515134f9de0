#include "router/api/http/http_tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <string>

// clang-format off
#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/error.hpp>
// clang-format on

namespace sheaf {
namespace {

namespace ssl = boost::asio::ssl;

int ChooseHttp1(SSL*, const unsigned char** chosen, unsigned char* chosen_length,
                const unsigned char* offered, unsigned int offered_length, void*) {
  static constexpr unsigned char kHttp1[] = "\x08http/1.1";
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, chosen_length, kHttp1, sizeof(kHttp1) - 1, offered,
                            offered_length) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

// Who may come is decided after the handshake, where the cause can be told.
int AcceptForNow(int, X509_STORE_CTX*) { return 1; }

std::shared_ptr<ssl::context> MakeContext(const TlsMaterial& material, bool wants_certificate) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* const raw = context->native_handle();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  // A resumed session would skip the check of a certificate that has ended since.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET);
  SSL_CTX_set_alpn_select_cb(raw, &ChooseHttp1, nullptr);
  context->use_certificate_chain(boost::asio::buffer(material.cert_pem));
  context->use_private_key(boost::asio::buffer(material.key_pem), ssl::context::pem);
  if (wants_certificate) SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, &AcceptForNow);
  return context;
}

}  // namespace

std::shared_ptr<ssl::context> HttpTls::Context() {
  const std::shared_ptr<const TlsMaterial> now = identity_->current();
  absl::MutexLock lock(&mutex_);
  if (made_of_ != now) {
    context_ = MakeContext(*now, identity_->wants_peer_certificate());
    made_of_ = now;
  }
  return context_;
}

bool HttpTls::Accepts(SSL& session) const {
  if (!identity_->wants_peer_certificate()) return true;
  return identity_->Accepts(PeerPem(session), PeerUse::kClient);
}

void HttpTls::HandshakeFailed(const boost::system::error_code& error,
                              const std::string& peer) const {
  if (error.category() != boost::asio::error::get_ssl_category()) return;
  const int reason = ERR_GET_REASON(static_cast<unsigned long>(error.value()));
  const bool plaintext = reason == SSL_R_HTTP_REQUEST || reason == SSL_R_WRONG_VERSION_NUMBER ||
                         reason == SSL_R_HTTPS_PROXY_REQUEST;
  identity_->report().Refused(identity_->listener(),
                              plaintext ? TlsRefusal::kPlaintext : TlsRefusal::kHandshake, peer,
                              plaintext ? "plaintext where TLS is wanted" : error.message());
}

}  // namespace sheaf
