#include "cli/top/http_get.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/host_port.h"
#include "base/status.h"

namespace sheaf {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Error = boost::system::error_code;

net::ssl::context ContextOf(const TlsDialer* dialer) {
  net::ssl::context context(net::ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  // Who it is is looked at after the handshake, where the cause can be told.
  context.set_verify_mode(net::ssl::verify_none);
  if (dialer != nullptr && dialer->shows_certificate()) {
    context.use_certificate_chain(net::buffer(dialer->material().cert_pem));
    context.use_private_key(net::buffer(dialer->material().key_pem), net::ssl::context::pem);
  }
  return context;
}

// One exchange, from the lookup to the last byte of the answer.
class Exchange {
 public:
  Exchange(const HostPort& address, const std::string& path, TlsDialer* dialer)
      : dialer_(dialer),
        name_(dialer != nullptr ? dialer->NameFor(address.host) : std::string()),
        request_(http::verb::get, path, 11),
        resolver_(io_),
        context_(ContextOf(dialer)),
        stream_(io_, context_) {
    request_.set(http::field::host, JoinHostPort(address.host, address.port));
    request_.set(http::field::connection, "close");
    parser_.body_limit(uint64_t{64} << 20);
    resolver_.async_resolve(address.host, std::to_string(address.port),
                            [this](Error error, const auto& found) {
                              if (Failed(error)) return;
                              stream_.next_layer().async_connect(
                                  found, [this](Error failed, const auto&) {
                                    if (!Failed(failed)) Greet();
                                  });
                            });
  }

  // Nothing: it was not over in time.
  std::optional<Error> Run(std::chrono::milliseconds timeout) {
    io_.run_for(timeout);
    return result_;
  }
  const http::response<http::string_body>& response() const { return parser_.get(); }

 private:
  bool Failed(Error error) {
    if (error) result_ = error;
    return static_cast<bool>(error);
  }
  void Greet() {
    if (dialer_ == nullptr) return Ask(stream_.next_layer());
    Error no_address;
    net::ip::make_address(name_, no_address);
    if (no_address && name_.find(':') == std::string::npos) {
      SSL_set_tlsext_host_name(stream_.native_handle(), name_.c_str());
    }
    stream_.async_handshake(net::ssl::stream_base::client, [this](Error error) {
      if (Failed(error)) return;
      if (!dialer_->Accepts(PeerPem(*stream_.native_handle()), name_)) {
        result_ = net::error::make_error_code(net::error::no_permission);
        return;
      }
      Ask(stream_);
    });
  }
  template <typename Stream>
  void Ask(Stream& stream) {
    http::async_write(stream, request_, [this, &stream](Error error, size_t) {
      if (Failed(error)) return;
      http::async_read(stream, buffer_, parser_, [this](Error end, size_t) { result_ = end; });
    });
  }

  TlsDialer* const dialer_;  // null: plaintext
  const std::string name_;   // that the server must have
  http::request<http::empty_body> request_;
  http::response_parser<http::string_body> parser_;
  beast::flat_buffer buffer_;
  std::optional<Error> result_;
  net::io_context io_;
  net::ip::tcp::resolver resolver_;
  net::ssl::context context_;
  net::ssl::stream<beast::tcp_stream> stream_;
};

}  // namespace

absl::StatusOr<std::string> HttpGet(const std::string& address, const std::string& path,
                                    std::chrono::milliseconds timeout, TlsDialer* dialer) {
  SHEAF_ASSIGN_OR_RETURN(const HostPort split, SplitHostPort(address));
  Exchange exchange(split, path, dialer);
  const std::optional<Error> error = exchange.Run(timeout);
  if (!error) {
    return absl::UnavailableError(
        absl::StrFormat("%s: no answer within %d ms", address, timeout.count()));
  }
  if (*error && dialer != nullptr && !dialer->refusal().empty()) {
    return absl::UnavailableError(absl::StrFormat("%s: %s", address, dialer->refusal()));
  }
  if (*error) return absl::UnavailableError(absl::StrFormat("%s: %s", address, error->message()));
  const unsigned status = exchange.response().result_int();
  const std::string what = absl::StrFormat("%s%s: HTTP status %d", address, path, status);
  if (status == 404) return absl::NotFoundError(what);
  if (status / 100 != 2) return absl::InternalError(what);
  return exchange.response().body();
}

}  // namespace sheaf
