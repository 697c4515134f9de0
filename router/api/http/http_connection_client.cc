// The client at the other end of a connection: whether it is there, whether it takes what is
// written, and how it is left.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

// clang-format off
#include <utility>  // before Asio: its 1.74 uses std::exchange without it
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
// clang-format on

#include "router/api/http/http_connection.h"

namespace sheaf {
namespace {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;

constexpr size_t kReadBytes = 8 << 10;
constexpr size_t kSinkBytes = 16 << 10;
constexpr size_t kWriteBytes = 64 << 10;
constexpr size_t kMaxEarlyBytes = 64 << 10;  // of later requests, read while one is answered
constexpr size_t kDrainBytes = 256 << 20;
constexpr std::chrono::seconds kDrainTime{5};
constexpr std::chrono::milliseconds kDrainTimeAtStop{100};
constexpr std::chrono::milliseconds kDrainTimeOfTls{500};
constexpr std::chrono::milliseconds kLookForEnd{200};
constexpr std::chrono::minutes kSlowestPiece{5};  // for kWriteBytes

}  // namespace

net::awaitable<bool> HttpConnection::Greet() {
  auto* const tls = stream_.tls();
  if (tls == nullptr) co_return true;
  error_code ec;
  stream_.tcp().expires_after(shared_.options.head_timeout);
  co_await tls->async_handshake(net::ssl::stream_base::server,
                                net::redirect_error(net::use_awaitable, ec));
  if (ec) {
    error_code ignored;
    const auto peer = stream_.socket().remote_endpoint(ignored);
    shared_.tls->HandshakeFailed(ec, ignored ? "a client" : peer.address().to_string());
  }
  const bool welcome = !ec && shared_.tls->Accepts(*tls->native_handle());
  finished_ = !welcome;
  co_return welcome;
}

net::awaitable<bool> HttpConnection::WaitForSignal() {
  if (gone_) co_return true;
  co_return co_await news_.Wait(shared_.options.ping_interval);
}

void HttpConnection::Watch() {
  asked_ = false;
  buffer_.shrink_to_fit();  // what answers take their time for may last long
  Listen();
}

void HttpConnection::Listen() {
  stream_.socket().async_wait(
      tcp::socket::wait_read, [self = shared_from_this(), number = ++watch_](error_code ec) {
        if (ec || self->watch_ != number) return;
        if (self->stream_.tls() != nullptr) return self->LookForEnd(number);
        // Bytes of a next request; unread, they would hide the client's end behind them.
        const auto space = self->buffer_.prepare(kReadBytes);
        const ssize_t got =
            recv(self->stream_.socket().native_handle(), space.data(), space.size(), MSG_DONTWAIT);
        if (got > 0) self->buffer_.commit(static_cast<size_t>(got));
        if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))) {
          if (self->buffer_.size() < kMaxEarlyBytes) {
            self->Listen();
          } else {
            self->WatchForReset();
          }
          return;
        }
        (got == 0 ? self->half_closed_ : self->gone_) = true;
        if (got == 0) self->WatchForReset();
        self->news_.Raise();
      });
}

void HttpConnection::LookForEnd(uint64_t number) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  const bool known = getsockopt(stream_.socket().native_handle(), IPPROTO_TCP, TCP_INFO, &info,
                                &length) == 0;
  // What waits in the socket is part of a next request, or the client's farewell with its end
  // behind.
  if (known && info.tcpi_state == TCP_ESTABLISHED) {
    auto timer = std::make_shared<net::steady_timer>(stream_.get_executor(), kLookForEnd);
    timer->async_wait([self = shared_from_this(), timer, number](error_code ec) {
      if (!ec && self->watch_ == number) self->LookForEnd(number);
    });
    return;
  }
  const bool half = known && info.tcpi_state == TCP_CLOSE_WAIT;
  (half ? half_closed_ : gone_) = true;
  if (half) WatchForReset();
  news_.Raise();
}

void HttpConnection::WatchForReset() {
  stream_.socket().async_wait(
      tcp::socket::wait_error, [self = shared_from_this(), number = watch_](error_code ec) {
        if (ec || self->watch_ != number) return;
        self->gone_ = true;
        self->news_.Raise();
      });
}

void HttpConnection::EndWatch() {
  ++watch_;
  error_code ignored;
  stream_.socket().cancel(ignored);
}

net::awaitable<void> HttpConnection::RespondAndDrain(const HttpResponse& response,
                                                     HttpFraming framing) {
  framing.keep_alive = false;
  (void)co_await Respond(response, framing);
  co_await Drain();
}

bool HttpConnection::MustAsk() { return half_closed_ && !gone_ && !std::exchange(asked_, true); }

net::awaitable<void> HttpConnection::WaitForReply() {
  while (!reply_ && !gone_) {
    // Not as if and else with a dropped result: GCC 12 lays that coroutine's frame out in two ways.
    const bool ask = MustAsk();
    if (ask) {
      const bool there = co_await Ask();
      gone_ = gone_ || !there;
    }
    if (!ask) co_await WaitForSignal();
  }
}

net::awaitable<bool> HttpConnection::Ask() {
  // An interim answer that was not waited for may be ignored by any client (RFC 9110, 15.2.1);
  // those of HTTP/1.0 know none.
  if (!may_ask_) co_return true;
  co_return co_await Write("HTTP/1.1 100 Continue\r\n\r\n");
}

net::awaitable<void> HttpConnection::Drain() {
  finished_ = true;
  error_code ignored;
  auto* const tls = stream_.tls();
  if (tls != nullptr && !gone_) {
    // Its farewell, so that the client can tell an end from a cut; the answer to it may not come.
    stream_.tcp().expires_after(shared_.stopping ? kDrainTimeAtStop : kDrainTimeOfTls);
    co_await tls->async_shutdown(net::redirect_error(net::use_awaitable, ignored));
    if (!stream_.socket().is_open()) co_return;
  }
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  if (ignored || half_closed_ || gone_) co_return;
  if (shared_.stopping) {
    stream_.tcp().expires_after(kDrainTimeAtStop);
  } else {
    stream_.tcp().expires_after(kDrainTime);
  }
  std::string sink(kSinkBytes, '\0');
  idle_ = true;
  for (size_t drained = 0; drained < kDrainBytes;) {
    const size_t bytes = co_await stream_.tcp().async_read_some(
        net::buffer(sink), net::redirect_error(net::use_awaitable, ignored));
    if (ignored) break;
    drained += bytes;
  }
  idle_ = false;
}

net::awaitable<bool> HttpConnection::Respond(const HttpResponse& response,
                                             const HttpFraming& framing) {
  std::string bytes = ResponseHead(response, framing, Date());
  if (!framing.head_only) bytes += response.body;
  const bool written = co_await Write(bytes);
  co_return written&& framing.keep_alive;
}

size_t HttpConnection::SendNow(std::string_view bytes) {
  if (stream_.tls() != nullptr) return 0;
  const ssize_t sent = send(stream_.socket().native_handle(), bytes.data(), bytes.size(),
                            MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent > 0 ? static_cast<size_t>(sent) : 0;  // what went wrong is for the next write to say
}

net::awaitable<bool> HttpConnection::Write(std::string_view bytes) {
  error_code ec;
  // A token of a stream fits in the socket's buffer, and needs no timer and no turn of the loop.
  bytes.remove_prefix(SendNow(bytes.substr(0, kWriteBytes)));
  if (bytes.empty()) co_return true;
  while (!bytes.empty()) {
    std::string_view piece = bytes.substr(0, kWriteBytes);
    bytes.remove_prefix(piece.size());
    const auto last = std::chrono::steady_clock::now() + kSlowestPiece;
    while (!piece.empty()) {
      stream_.tcp().expires_at(
          std::min(last, std::chrono::steady_clock::now() + shared_.options.write_timeout));
      const size_t written = co_await stream_.async_write_some(
          net::buffer(piece.data(), piece.size()), net::redirect_error(net::use_awaitable, ec));
      if (ec) {
        finished_ = true;
        co_return false;
      }
      piece.remove_prefix(written);
    }
  }
  stream_.tcp().expires_never();
  co_return true;
}

}  // namespace sheaf
