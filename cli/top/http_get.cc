#include "cli/top/http_get.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
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

// One exchange, from the lookup to the last byte of the answer.
class Exchange {
 public:
  Exchange(const HostPort& address, const std::string& path)
      : request_(http::verb::get, path, 11), resolver_(io_), stream_(io_) {
    request_.set(http::field::host, JoinHostPort(address.host, address.port));
    request_.set(http::field::connection, "close");
    parser_.body_limit(uint64_t{64} << 20);
    resolver_.async_resolve(address.host, std::to_string(address.port),
                            [this](Error error, const auto& found) {
                              if (Failed(error)) return;
                              stream_.async_connect(found, [this](Error failed, const auto&) {
                                if (!Failed(failed)) Ask();
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
  void Ask() {
    http::async_write(stream_, request_, [this](Error error, size_t) {
      if (Failed(error)) return;
      http::async_read(stream_, buffer_, parser_, [this](Error end, size_t) { result_ = end; });
    });
  }

  http::request<http::empty_body> request_;
  http::response_parser<http::string_body> parser_;
  beast::flat_buffer buffer_;
  std::optional<Error> result_;
  net::io_context io_;
  net::ip::tcp::resolver resolver_;
  beast::tcp_stream stream_;
};

}  // namespace

absl::StatusOr<std::string> HttpGet(const std::string& address, const std::string& path,
                                    std::chrono::milliseconds timeout) {
  SHEAF_ASSIGN_OR_RETURN(const HostPort split, SplitHostPort(address));
  Exchange exchange(split, path);
  const std::optional<Error> error = exchange.Run(timeout);
  if (!error) {
    return absl::UnavailableError(
        absl::StrFormat("%s: no answer within %d ms", address, timeout.count()));
  }
  if (*error) return absl::UnavailableError(absl::StrFormat("%s: %s", address, error->message()));
  const unsigned status = exchange.response().result_int();
  const std::string what = absl::StrFormat("%s%s: HTTP status %d", address, path, status);
  if (status == 404) return absl::NotFoundError(what);
  if (status / 100 != 2) return absl::InternalError(what);
  return exchange.response().body();
}

}  // namespace sheaf
