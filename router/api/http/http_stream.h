#pragma once
// HttpStream: the bytes of one HTTP connection, plain or over TLS; with the time limits of
// boost::beast::tcp_stream for both.
//
// Order      with TLS: Handshake() first.
// Threads    the socket's strand.

#include <optional>
#include <type_traits>

// clang-format off
#include <utility>  // before Asio: its 1.74 uses std::exchange without it
#include <boost/asio/async_result.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
// clang-format on

namespace sheaf {

class HttpStream {
 public:
  using executor_type = boost::beast::tcp_stream::executor_type;
  template <typename Token>
  using Result = typename boost::asio::async_result<
      std::decay_t<Token>, void(boost::system::error_code, std::size_t)>::return_type;

  // A null context: plain.
  HttpStream(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* context)
      : tcp_(std::move(socket)) {
    if (context != nullptr) tls_.emplace(tcp_, *context);
  }

  executor_type get_executor() { return tcp_.get_executor(); }
  boost::asio::ip::tcp::socket& socket() { return tcp_.socket(); }
  // Below TLS, and the time limits of every operation.
  boost::beast::tcp_stream& tcp() { return tcp_; }
  // Null: plain.
  boost::asio::ssl::stream<boost::beast::tcp_stream&>* tls() { return tls_ ? &*tls_ : nullptr; }

  template <typename Buffers, typename Token>
  Result<Token> async_read_some(const Buffers& buffers, Token&& token) {
    if (tls_) return tls_->async_read_some(buffers, std::forward<Token>(token));
    return tcp_.async_read_some(buffers, std::forward<Token>(token));
  }
  template <typename Buffers, typename Token>
  Result<Token> async_write_some(const Buffers& buffers, Token&& token) {
    if (tls_) return tls_->async_write_some(buffers, std::forward<Token>(token));
    return tcp_.async_write_some(buffers, std::forward<Token>(token));
  }

 private:
  boost::beast::tcp_stream tcp_;
  std::optional<boost::asio::ssl::stream<boost::beast::tcp_stream&>> tls_;
};

}  // namespace sheaf
