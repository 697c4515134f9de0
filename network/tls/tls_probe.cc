#include "network/tls/tls_probe.h"

#include <netdb.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <memory>
#include <string>

#include "base/unique_fd.h"

namespace sheaf {
namespace {

constexpr unsigned char kAlertRecord = 0x15;
constexpr unsigned char kHandshakeRecord = 0x16;

std::string Hello() {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  &SSL_CTX_free);
  const std::unique_ptr<SSL, decltype(&SSL_free)> session(SSL_new(context.get()), &SSL_free);
  BIO* const sent = BIO_new(BIO_s_mem());
  SSL_set_bio(session.get(), BIO_new(BIO_s_mem()), sent);  // which owns both
  SSL_connect(session.get());                              // as far as it comes alone
  ERR_clear_error();
  char* data = nullptr;
  const long size = BIO_get_mem_data(sent, &data);
  return std::string(data, static_cast<size_t>(size));
}

Speaks Ask(const addrinfo& address, const std::string& hello, const timeval& patience) {
  const UniqueFd socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Speaks::kUnknown;
  // The kernel holds connect to the sender's time too.
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  unsigned char first = 0;
  if (connect(socket.get(), address.ai_addr, address.ai_addrlen) != 0 ||
      send(socket.get(), hello.data(), hello.size(), MSG_NOSIGNAL) < 0 ||
      recv(socket.get(), &first, 1, 0) != 1) {
    return Speaks::kUnknown;
  }
  return first == kHandshakeRecord || first == kAlertRecord ? Speaks::kTls : Speaks::kPlaintext;
}

}  // namespace

Speaks ProbeTls(const HostPort& address, std::chrono::milliseconds timeout) {
  const timeval patience{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  if (getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found) != 0) {
    return Speaks::kUnknown;
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  const std::string hello = Hello();
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const Speaks said = Ask(*one, hello, patience);
    if (said != Speaks::kUnknown) return said;
  }
  return Speaks::kUnknown;
}

}  // namespace sheaf
