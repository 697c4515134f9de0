// The POST over a real socket, to a collector in this process that says what the test wants.
#include "tracing/otlp_http_sender.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using What = SendResult::What;

// Takes one connection, reads one request, writes `answer` and closes; with an empty answer it only
// waits until the client has gone.
class Collector {
 public:
  explicit Collector(std::string answer) : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    socklen_t size = sizeof address;
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, answer = std::move(answer)] { Serve(answer); });
  }
  ~Collector() { Join(); }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }
  OtlpEndpoint endpoint() const { return {"127.0.0.1", port_, "/v1/traces"}; }
  const std::string& request() const { return request_; }  // after Join

 private:
  void Serve(const std::string& answer) {
    timeval patience{20, 0};
    setsockopt(listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const UniqueFd client(accept(listener_.get(), nullptr, nullptr));
    if (client.get() < 0) return;
    setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char bytes[4096];
    for (;;) {
      const ssize_t got = recv(client.get(), bytes, sizeof bytes, 0);
      if (got <= 0) return;
      request_.append(bytes, static_cast<size_t>(got));
      if (!answer.empty() && request_.ends_with("the bytes")) break;
    }
    EXPECT_EQ(send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(answer.size()));
  }

  const UniqueFd listener_;
  uint16_t port_ = 0;
  std::string request_;
  std::thread thread_;
};

std::string Answer(const std::string& status, const std::string& fields, const std::string& body) {
  return "HTTP/1.1 " + status + "\r\n" + fields + "Content-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

SendResult Send(const OtlpEndpoint& endpoint, Duration timeout = seconds(20),
                const std::function<bool()>& give_up = [] { return false; }) {
  return MakeOtlpHttpSender(endpoint, "test/1")->Send("the bytes", timeout, give_up);
}

TEST(OtlpHttpSenderTest, TheRequestIsAPost) {
  Collector collector(Answer("200 OK", "", ""));
  const SendResult result = Send(collector.endpoint());
  EXPECT_EQ(result.what, What::kTaken) << result.why;
  EXPECT_EQ(result.rejected_spans, 0);
  collector.Join();
  EXPECT_THAT(collector.request(), testing::StartsWith("POST /v1/traces HTTP/1.1\r\n"));
  EXPECT_THAT(collector.request(), HasSubstr("Content-Type: application/x-protobuf\r\n"));
  EXPECT_THAT(collector.request(), HasSubstr("Content-Length: 9\r\n"));
  EXPECT_THAT(collector.request(), HasSubstr("User-Agent: test/1\r\n"));
  EXPECT_THAT(collector.request(), HasSubstr("Host: 127.0.0.1:"));
}

TEST(OtlpHttpSenderTest, APartOfTheSpansMayBeRefused) {
  Collector collector(
      Answer("200 OK", "", std::string("\x0a\x0b\x08\x03\x12\x07no room", 13)));
  const SendResult result = Send(collector.endpoint());
  EXPECT_EQ(result.what, What::kTaken);
  EXPECT_EQ(result.rejected_spans, 3);
  EXPECT_EQ(result.why, "no room");
}

TEST(OtlpHttpSenderTest, StatusesSayWhetherToComeBack) {
  {
    Collector collector(Answer("503 Service Unavailable", "Retry-After: 7\r\n", "later"));
    const SendResult result = Send(collector.endpoint());
    EXPECT_EQ(result.what, What::kTryLater);
    EXPECT_EQ(result.retry_after, Duration(seconds(7)));
    EXPECT_THAT(result.why, HasSubstr("503"));
  }
  {
    Collector collector(Answer("429 Too Many", "Retry-After: Fri, 31 Dec 1999\r\n", ""));
    const SendResult result = Send(collector.endpoint());
    EXPECT_EQ(result.what, What::kTryLater);
    EXPECT_FALSE(result.retry_after.has_value()) << "a date is not read";
  }
  for (const char* status : {"400 Bad Request", "404 Not Found", "301 Moved", "500 Oops"}) {
    Collector collector(Answer(status, "", ""));
    const SendResult result = Send(collector.endpoint());
    EXPECT_EQ(result.what, What::kRefused) << status;
    EXPECT_THAT(result.why, HasSubstr(std::string(status).substr(0, 3)));
  }
}

TEST(OtlpHttpSenderTest, WhatIsNoAnswerIsForLater) {
  Collector nonsense("220 mail.example ESMTP\r\n");
  EXPECT_EQ(Send(nonsense.endpoint()).what, What::kTryLater);
  Collector large(Answer("200 OK", "", std::string(100 << 10, 'x')));
  EXPECT_EQ(Send(large.endpoint()).what, What::kTryLater);
}

TEST(OtlpHttpSenderTest, NobodyListens) {
  OtlpEndpoint nobody{"127.0.0.1", 1, "/v1/traces"};
  const SendResult result = Send(nobody);
  EXPECT_EQ(result.what, What::kTryLater);
  EXPECT_THAT(result.why, HasSubstr("http://127.0.0.1:1/v1/traces: "));
}

TEST(OtlpHttpSenderTest, ACollectorThatIsSilentIsLeft) {
  Collector silent("");
  const TimePoint begin = SteadyClock().Now();
  const SendResult result = Send(silent.endpoint(), milliseconds(50));
  EXPECT_EQ(result.what, What::kTryLater);
  EXPECT_THAT(result.why, HasSubstr("no answer in time"));
  EXPECT_LT(SteadyClock().Now() - begin, seconds(10));
  Collector another("");
  bool asked = false;
  const SendResult given_up = Send(another.endpoint(), seconds(20), [&] {
    return std::exchange(asked, true);
  });
  EXPECT_EQ(given_up.what, What::kTryLater);
  EXPECT_LT(SteadyClock().Now() - begin, seconds(10));
}

}  // namespace
}  // namespace sheaf
