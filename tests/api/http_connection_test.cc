// HTTP/1.1 as bytes on the wire: heads, framing, names of requests, methods.
#include <future>
#include <latch>
#include <set>

#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

class HttpConnectionTest : public HttpFixture {
 protected:
  HttpAnswer Raw(const std::string& bytes) {
    HttpClient client(server_->port());
    return client.Send(bytes) ? client.Receive() : HttpAnswer();
  }
};

TEST_F(HttpConnectionTest, HeadsThatTwoServersCouldReadDifferentlyEndTheConnection) {
  const std::string post = "POST /tokenize HTTP/1.1\r\nHost: t\r\n";
  const std::pair<std::string, int> cases[] = {
      {"GET /version HTTP/1.1\r\n\r\n", 400},
      {"GET /version HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"GET /version HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
      {"GET /version HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400},
      {"GET /version HTTP/1.1\nHost: a\n\n", 400},
      {"GET /version HTTP/2.0\r\nHost: a\r\n\r\n", 505},
      {"GET version HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501},
      {post + "Transfer-Encoding: gzip\r\n\r\n", 501},
      {post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
      {post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{    }", 400},
      {post + "Content-Length: x\r\n\r\n", 400},
      {post + "Expect: a miracle\r\nContent-Length: 2\r\n\r\n{}", 417},
  };
  for (const auto& [bytes, status] : cases) {
    SCOPED_TRACE(bytes);
    HttpClient client(server_->port());
    // What follows must not be taken for a request.
    ASSERT_TRUE(client.Send(bytes + "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"));
    const HttpAnswer answer = client.Receive();
    EXPECT_EQ(answer.status, status);
    EXPECT_EQ(Json(answer)["error"]["code"], status);
    EXPECT_EQ(answer.headers.at("connection"), "close");
    EXPECT_TRUE(client.AtEnd());
  }
}

TEST_F(HttpConnectionTest, HeadsThatAreUnusualButRight) {
  for (const char* bytes :
       {"\r\n\r\nGET /version HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET http://other.example:1/version HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /version/?a=/b HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /%76ersion HTTP/1.1\r\nHost:\r\n\r\n", "GET /version HTTP/1.0\r\n\r\n"}) {
    SCOPED_TRACE(bytes);
    EXPECT_EQ(Raw(bytes).status, 200);
  }
  EXPECT_EQ(Raw("get-nothing /version HTTP/1.1\r\nHost: t\r\n\r\n").status, 405);
  EXPECT_EQ(Json(Get("/v1/models/"))["object"], "list");
}

TEST_F(HttpConnectionTest, EveryAnswerHasDateAndAName) {
  std::set<std::string> names;
  for (const char* path : {"/version", "/health", "/nowhere", "/v1/completions"}) {
    SCOPED_TRACE(path);
    const HttpAnswer answer = Get(path);
    EXPECT_EQ(answer.headers.at("date"), "Tue, 14 Nov 2023 22:15:23 GMT");
    EXPECT_THAT(answer.headers.at("x-request-id"), MatchesRegex("[0-9a-f]{32}"));
    names.insert(answer.headers.at("x-request-id"));
  }
  const HttpAnswer refused = Raw("nonsense\r\n\r\n");
  EXPECT_EQ(refused.headers.count("date"), 1u);
  names.insert(refused.headers.at("x-request-id"));
  EXPECT_EQ(names.size(), 5u);
}

TEST_F(HttpConnectionTest, NamesOfRequestsAreTheClientsOwnIfHarmless) {
  api_.engine.SetAnswer(AnswerWith("a"));
  HttpClient client(server_->port());
  const std::string body = R"({"prompt":"x"})";
  ASSERT_TRUE(
      client.SendRequest("POST", "/v1/completions", body, "X-Request-Id: trace-7:a.b_c\r\n"));
  HttpAnswer answer = client.Receive();
  EXPECT_EQ(answer.headers.at("x-request-id"), "trace-7:a.b_c");
  EXPECT_EQ(Json(answer)["id"], "cmpl-trace-7:a.b_c");
  for (const std::string& harmful :
       {std::string("a b"), std::string("{}"), std::string(129, 'a')}) {
    ASSERT_TRUE(
        client.SendRequest("POST", "/v1/completions", body, "X-Request-Id: " + harmful + "\r\n"));
    answer = client.Receive();
    EXPECT_THAT(answer.headers.at("x-request-id"), MatchesRegex("[0-9a-f]{32}"));
    EXPECT_EQ(Json(answer)["id"], "cmpl-" + answer.headers.at("x-request-id"));
  }
}

TEST_F(HttpConnectionTest, HeadIsGetWithoutTheBody) {
  for (const bool ready : {true, false}) {
    api_.engine.SetReady(ready);
    for (const char* path : {"/live", "/ready", "/health", "/ping", "/load", "/version",
                             "/v1/models", "/v1/models/alias", "/v1/models/other", "/nowhere"}) {
      SCOPED_TRACE(path);
      HttpClient client(server_->port());
      ASSERT_TRUE(client.SendRequest("HEAD", path, "", "X-Request-Id: a\r\n"));
      const HttpAnswer head = client.Receive(/*head_only=*/true);
      ASSERT_TRUE(client.SendRequest("GET", path, "", "X-Request-Id: a\r\n"));
      const HttpAnswer get = client.Receive();
      EXPECT_EQ(head.status, get.status);
      EXPECT_EQ(head.headers, get.headers);
      EXPECT_EQ(get.headers.at("content-length"), std::to_string(get.body.size()));
    }
  }
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("HEAD", "/v1/completions"));
  EXPECT_EQ(client.Receive(/*head_only=*/true).status, 405);
  EXPECT_EQ(client.Get("/version").status, 200);
}

TEST_F(HttpConnectionTest, OptionsSayWhatIsPossible) {
  HttpClient client(server_->port());
  const std::pair<const char*, const char*> cases[] = {{"/version", "GET, HEAD, OPTIONS"},
                                                       {"/ping", "GET, HEAD, OPTIONS, POST"},
                                                       {"/v1/chat/completions/", "OPTIONS, POST"},
                                                       {"*", "GET, HEAD, OPTIONS, POST"}};
  for (const auto& [path, allowed] : cases) {
    SCOPED_TRACE(path);
    ASSERT_TRUE(client.SendRequest("OPTIONS", path));
    const HttpAnswer answer = client.Receive(/*head_only=*/true);
    EXPECT_EQ(answer.status, 204);
    EXPECT_EQ(answer.headers.at("allow"), allowed);
    for (const char* absent :
         {"content-length", "transfer-encoding", "access-control-allow-origin"})
      EXPECT_EQ(answer.headers.count(absent), 0u) << absent;
  }
  ASSERT_TRUE(client.SendRequest("OPTIONS", "/nowhere"));
  EXPECT_EQ(client.Receive().status, 404);
  ASSERT_TRUE(client.SendRequest("DELETE", "/version"));
  const HttpAnswer refused = client.Receive();
  EXPECT_EQ(refused.status, 405);
  EXPECT_EQ(refused.headers.at("allow"), "GET, HEAD, OPTIONS");
}

TEST_F(HttpConnectionTest, RefusedWithoutThe100ThatItWaitedFor) {
  HttpClient client(server_->port());
  ASSERT_TRUE(
      client.Send("POST /nowhere HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n"
                  "Content-Length: 2\r\n\r\n"));
  const HttpAnswer answer = client.Receive();
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(client.AtEnd());
}

// More than is read ahead of an answer.
TEST_F(HttpConnectionTest, ManyRequestsAheadAreAnsweredInOrder) {
  constexpr size_t kRequests = 400;
  HttpClient client(server_->port());
  std::string bytes;
  for (size_t i = 1; i <= kRequests; ++i) {
    const std::string body = R"({"prompt":")" + std::string(i, 'x') + "\"}";
    bytes +=
        "POST /tokenize HTTP/1.1\r\nHost: t\r\nContent-Length: " + std::to_string(body.size()) +
        "\r\n\r\n" + body;
  }
  auto sent = std::async(std::launch::async, [&] { return client.Send(bytes); });
  for (size_t i = 1; i <= kRequests; ++i) {
    const HttpAnswer answer = client.Receive();
    ASSERT_EQ(answer.status, 200) << i;
    ASSERT_EQ(Json(answer)["count"], i + 1);  // and the prefix
  }
  EXPECT_TRUE(sent.get());
}

// Lines are ended there by some readers of event streams.
TEST_F(HttpConnectionTest, AnswersHoldNoRawLineSeparators) {
  const std::string text = "a\u2028b\u2029c\u0085d\u2027\u0084";
  api_.engine.SetAnswer([&](const GenerationRequest& request, GenerationSink& sink) {
    TokenEvent event = ByteToken('a');
    event.text = text;
    sink.OnToken(event);
    sink.OnEnd(EndOf(request, FinishReason::kStop, 1));
  });
  const HttpAnswer whole = Post("/v1/completions", R"({"prompt":"x"})");
  const HttpAnswer stream = Post("/v1/completions", R"({"prompt":"x","stream":true})");
  EXPECT_EQ(Json(whole)["choices"][0]["text"], text);
  EXPECT_EQ(Chunks(stream)[0]["choices"][0]["text"], text);
  for (const std::string& body : {whole.body, stream.body}) {
    for (const char* raw : {"\u2028", "\u2029", "\u0085"}) EXPECT_THAT(body, Not(HasSubstr(raw)));
    EXPECT_THAT(body, HasSubstr("\\u2028"));
  }
}

TEST_F(HttpConnectionTest, NoRouteIsCalledAfterStop) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(
        api_.preparation.TrySubmit(PreparationLane::kOrdinary, [released] { released.wait(); }));
  }
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":"x"})"));
  server_->Stop(std::chrono::milliseconds(0));
  server_.reset();
  release.set_value();
  // Both threads here at once: what waited before has run, or not.
  std::latch both(2);
  std::latch done(2);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(api_.preparation.TrySubmit(PreparationLane::kOrdinary, [&] {
      both.arrive_and_wait();
      done.count_down();
    }));
  }
  done.wait();
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

}  // namespace
}  // namespace sheaf
