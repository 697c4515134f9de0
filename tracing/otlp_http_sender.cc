#include "tracing/otlp_http_sender.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>  // before Asio: its 1.74 uses std::exchange without it

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/host_port.h"
#include "base/one_line.h"
#include "tracing/otlp_encoding.h"

namespace sheaf {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Error = boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr uint64_t kMaxAnswerBytes = 64 << 10;
constexpr milliseconds kLookAgain{100};

// One POST, from the lookup to the last byte of the answer.
class Post {
 public:
  Post(const OtlpEndpoint& endpoint, const std::string& user_agent, const std::string& bytes)
      : request_(http::verb::post, endpoint.path, 11), resolver_(io_), stream_(io_) {
    request_.set(http::field::host, JoinHostPort(endpoint.host, endpoint.port));
    request_.set(http::field::user_agent, user_agent);
    request_.set(http::field::content_type, "application/x-protobuf");
    request_.set(http::field::connection, "close");
    request_.body() = bytes;
    request_.prepare_payload();
    parser_.body_limit(kMaxAnswerBytes);
    resolver_.async_resolve(endpoint.host, std::to_string(endpoint.port),
                            [this](Error error, const auto& found) {
                              if (Failed(error)) return;
                              stream_.async_connect(found, [this](Error failed, const auto&) {
                                if (!Failed(failed)) Ask();
                              });
                            });
  }

  // Nothing: it was not over in time, or was given up.
  std::optional<Error> Run(Duration timeout, const std::function<bool()>& give_up) {
    const auto deadline = steady_clock::now() + timeout;
    while (!result_ && !give_up()) {
      const auto now = steady_clock::now();
      if (now >= deadline) break;
      io_.run_for(std::min<Duration>(deadline - now, kLookAgain));
    }
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
      http::async_read_header(stream_, buffer_, parser_, [this](Error failed, size_t) {
        if (!Failed(failed)) ReadBody();
      });
    });
  }
  void ReadBody() {
    // Beast 1.74 holds a response to the limit only where no length is told before.
    if (parser_.content_length().value_or(0) > kMaxAnswerBytes) {
      result_ = http::error::body_limit;
      return;
    }
    http::async_read(stream_, buffer_, parser_, [this](Error end, size_t) { result_ = end; });
  }

  http::request<http::string_body> request_;
  http::response_parser<http::string_body> parser_;
  beast::flat_buffer buffer_;
  std::optional<Error> result_;
  net::io_context io_;
  net::ip::tcp::resolver resolver_;
  beast::tcp_stream stream_;
};

std::optional<Duration> RetryAfter(const http::response<http::string_body>& response) {
  const auto field = response[http::field::retry_after];
  int seconds = 0;
  if (!absl::SimpleAtoi(absl::string_view(field.data(), field.size()), &seconds) || seconds < 0) {
    return std::nullopt;
  }
  return std::chrono::seconds(seconds);
}

bool IsForLater(unsigned status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

class OtlpHttpSender final : public SpanSender {
 public:
  OtlpHttpSender(OtlpEndpoint endpoint, std::string user_agent)
      : endpoint_(std::move(endpoint)), user_agent_(std::move(user_agent)) {}

  SendResult Send(const std::string& bytes, Duration timeout,
                  const std::function<bool()>& give_up) override {
    using What = SendResult::What;
    Post post(endpoint_, user_agent_, bytes);
    const std::optional<Error> error = post.Run(timeout, give_up);
    if (!error) return {What::kTryLater, endpoint_.url() + ": no answer in time"};
    if (*error) {
      return {What::kTryLater, endpoint_.url() + ": " + error->message()};
    }
    const auto& response = post.response();
    const unsigned status = response.result_int();
    if (status / 100 == 2) {
      ExportAnswer answer = DecodeExportAnswer(response.body());
      return {What::kTaken, OneLine(answer.message), std::nullopt, answer.rejected_spans};
    }
    const std::string why = absl::StrFormat("%s: HTTP status %d", endpoint_.url(), status);
    if (IsForLater(status)) return {What::kTryLater, why, RetryAfter(response)};
    return {What::kRefused, why};
  }

 private:
  const OtlpEndpoint endpoint_;
  const std::string user_agent_;
};

}  // namespace

std::unique_ptr<SpanSender> MakeOtlpHttpSender(OtlpEndpoint endpoint, std::string user_agent) {
  return std::make_unique<OtlpHttpSender>(std::move(endpoint), std::move(user_agent));
}

}  // namespace sheaf
