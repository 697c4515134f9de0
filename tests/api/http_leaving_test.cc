// Clients at their end: half-closed ones, those that leave, those that never read, and answers that
// must arrive although the client still sends.
#include <cstring>
#include <latch>
#include <thread>

#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr const char* kPlain = R"({"prompt":"x"})";
constexpr const char* kStream = R"({"prompt":"x","stream":true})";

class HttpLeavingTest : public HttpFixture {
 protected:
  bool WaitForMetric(const std::string& line) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      if (api_.Metrics().find(line + "\n") != std::string::npos) return true;
      std::this_thread::yield();
    }
    return false;
  }

  static void CloseSendingSide(const HttpClient& client) { shutdown(client.fd(), SHUT_WR); }

  void EndGeneration(size_t index) {
    api_.engine.Emit(index, ByteToken('x'));
    api_.engine.End(index, EndOf(api_.engine.request(index), FinishReason::kStop, 1));
  }
};

TEST_F(HttpLeavingTest, AHalfClosedClientGetsItsWholeAnswer) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", kPlain));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  CloseSendingSide(client);
  // It is asked whether it is there, in a way that every client of HTTP/1.1 ignores.
  EXPECT_EQ(client.ReceiveHead().status, 100);
  EndGeneration(0);
  const HttpAnswer answer = client.Receive();
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(Json(answer)["choices"][0]["text"], "x");
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="http",outcome="stop"} 1)"));
}

TEST_F(HttpLeavingTest, AHalfClosedClientGetsItsStream) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", kStream));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  api_.engine.Emit(0, ByteToken('a'));
  ASSERT_EQ(client.ReceiveHead().status, 200);
  EXPECT_THAT(client.ReceiveChunk(), HasSubstr("data: "));
  CloseSendingSide(client);
  EXPECT_EQ(client.ReceiveChunk(), ": waiting\n\n");
  EndGeneration(0);
  std::string rest;
  for (std::string chunk = client.ReceiveChunk(); !chunk.empty(); chunk = client.ReceiveChunk())
    rest += chunk;
  EXPECT_THAT(rest, HasSubstr("data: [DONE]\n\n"));
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(HttpLeavingTest, AHalfClosedClientGetsAllThatItAskedFor) {
  HttpClient client(server_->port());
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", kPlain));
  CloseSendingSide(client);
  for (size_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(api_.engine.WaitForSubmit(i));
    EndGeneration(i);
    HttpAnswer answer = client.ReceiveHead();
    while (answer.status == 100) answer = client.ReceiveHead();
    ASSERT_EQ(answer.status, 200);
    ASSERT_GT(client.Take(std::stoul(answer.headers.at("content-length"))).size(), 0u);
  }
  EXPECT_TRUE(client.AtEnd());
}

// HTTP/1.0 knows no interim answers: nothing comes before the answer.
TEST_F(HttpLeavingTest, AnOldHalfClosedClientIsNotAsked) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.Send("POST /v1/completions HTTP/1.0\r\nContent-Length: " +
                          std::to_string(std::strlen(kPlain)) + "\r\n\r\n" + kPlain));
  CloseSendingSide(client);
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  EndGeneration(0);
  EXPECT_EQ(client.Receive().status, 200);
}

TEST_F(HttpLeavingTest, WhoLeavesIsNoticedAtEveryStage) {
  // While it waits in the pool.
  const auto open = std::make_shared<std::latch>(1);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(api_.preparation.TrySubmit(PreparationLane::kOrdinary, [open] { open->wait(); }));
  }
  {
    HttpClient client(server_->port());
    ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", kPlain));
    ASSERT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 1)"));
  }
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 0)"));
  open->count_down();
  // While it is generated, with and without a stream.
  for (const char* body : {kPlain, kStream}) {
    size_t index = 0;
    {
      HttpClient client(server_->port());
      index = api_.engine.submitted();
      ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", body));
      ASSERT_TRUE(api_.engine.WaitForSubmit(index));
    }
    EXPECT_TRUE(api_.engine.WaitForCancel(index));
  }
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 0)"));
}

// Unread bytes at a close would make the kernel reset the connection and drop the answer.
TEST_F(HttpLeavingTest, TheLastAnswerArrivesAlthoughTheClientStillSends) {
  for (int i = 0; i < 20; ++i) {
    HttpClient client(server_->port());
    ASSERT_TRUE(client.SendRequest("GET", "/version", "", "Connection: close\r\n"));
    const std::string more(256 << 10, 'x');
    ASSERT_TRUE(client.Send(more));  // all of it is taken
    EXPECT_EQ(client.Receive().status, 200);
    EXPECT_TRUE(client.AtEnd());  // no reset
  }
}

// A slot is free again soon after its client stopped to read, whatever the kernel's buffers take.
TEST_F(HttpLeavingTest, WhoNeverReadsIsCutOffInTime) {
  options_.write_timeout = milliseconds(100);
  api_.limits.max_unsent_bytes = 1u << 30;  // not what ends it here
  StartServer();
  HttpClient client(server_->port());
  const int small = 4096;
  setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", kStream));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  TokenEvent event = ByteToken('x');
  event.text = std::string(100000, 'y');
  for (int i = 0; i < 100; ++i) api_.engine.Emit(0, event);
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 0)"));
}

// A reader that is slow but reads is no such client: each byte taken counts.
TEST_F(HttpLeavingTest, WhoReadsSlowlyGetsAll) {
  options_.write_timeout = milliseconds(2000);
  StartServer();
  HttpClient client(server_->port());
  const int small = 4096;
  setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  api_.engine.SetAnswer([](const GenerationRequest& request, GenerationSink& sink) {
    TokenEvent event = ByteToken('x');
    event.text = std::string(400 << 10, 'y');
    sink.OnToken(event);
    sink.OnEnd(EndOf(request, FinishReason::kStop, 1));
  });
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", kPlain));
  const HttpAnswer head = client.ReceiveHead();
  ASSERT_EQ(head.status, 200);
  const size_t size = std::stoul(head.headers.at("content-length"));
  EXPECT_EQ(client.Take(size).size(), size);
}

TEST_F(HttpLeavingTest, ConnectionsBeyondTheBoundAreCounted) {
  options_.max_connections = 2;
  StartServer();
  HttpClient first(server_->port()), second(server_->port());
  ASSERT_EQ(first.Get("/health").status, 200);
  ASSERT_EQ(second.Get("/health").status, 200);
  HttpClient third(server_->port());
  EXPECT_EQ(third.Receive().status, 503);
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections_refused_total{face="http"} 1)"));
  first.Close();
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 1)"));
  HttpClient fourth(server_->port());
  EXPECT_EQ(fourth.Get("/health").status, 200);
}

}  // namespace
}  // namespace sheaf
