// The HTTP server itself: errors, limits, clients that leave or do not read, health, and stopping.
#include <future>
#include <thread>

#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

class HttpServerTest : public HttpFixture {
 protected:
  // Polls the metrics, as an operator would; false after ten seconds.
  bool WaitForMetric(const std::string& line) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      if (api_.Metrics().find(line + "\n") != std::string::npos) return true;
      std::this_thread::yield();
    }
    return false;
  }
};

TEST_F(HttpServerTest, ErrorsHaveTheOpenAiShape) {
  struct Case {
    const char* path;
    const char* body;
    int status;
    const char* param;
    const char* message;
  };
  const Case cases[] = {
      {"/v1/completions", R"({"prompt":"x","model":"gpt-9"})", 404, nullptr,
       "The model `gpt-9` does not exist"},
      {"/v1/completions", R"({"prompt":"x","top_p":2})", 400, "top_p", "must be in (0, 1], got 2"},
      {"/v1/completions", R"({"prompt":""})", 400, "prompt", "must not be empty"},
      {"/v1/completions", R"({"prompt":[999]})", 400, "prompt", "outside the vocabulary [0, 260)"},
      {"/v1/completions", R"({"prompt":"x","max_tokens":600})", 400, "prompt",
       "maximum context length is 512"},
      {"/v1/completions", R"({"prompt":)", 400, nullptr, "not a valid JSON object"},
      {"/v1/chat/completions", R"({"messages":[{"role":"robot"}]})", 400, "messages",
       "robot is unknown"},
      {"/tokenize", R"({})", 400, "prompt", "required"},
      {"/detokenize", R"({"tokens":[-1]})", 400, "tokens", "token id -1"},
      {"/nowhere", "{}", 404, nullptr, "There is no /nowhere here."},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.body);
    const HttpAnswer answer = Post(bad.path, bad.body);
    EXPECT_EQ(answer.status, bad.status);
    const Parsed error = Json(answer)["error"];
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(bad.message));
    EXPECT_TRUE(error["type"].is_string());
    EXPECT_EQ(error["code"], bad.status);
    EXPECT_EQ(error["param"], bad.param == nullptr ? Parsed(nullptr) : Parsed(bad.param));
  }
  EXPECT_EQ(api_.engine.submitted(), 0u);
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="http",outcome="invalid"} 7)"));
}

TEST_F(HttpServerTest, WrongMethodSaysWhichIsRight) {
  const HttpAnswer answer = Get("/v1/completions");
  EXPECT_EQ(answer.status, 405);
  EXPECT_EQ(answer.headers.at("allow"), "OPTIONS, POST");
}

TEST_F(HttpServerTest, FullQueueIs503WithRetryAfter) {
  api_.engine.SetSubmitError(absl::ResourceExhaustedError("the queue is full: 8 requests wait"));
  const HttpAnswer answer = Post("/v1/completions", R"({"prompt":"x","stream":true})");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.headers.at("retry-after"), "2");  // 1.5 s, rounded up
  EXPECT_THAT(Json(answer)["error"]["message"].get<std::string>(), HasSubstr("8 requests wait"));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="http",outcome="rejected"} 1)"));
}

TEST_F(HttpServerTest, APromptListIsRefusedAsAWhole) {
  api_.engine.SetSubmitError(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":["a","b"]})").status, 503);
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

TEST_F(HttpServerTest, HealthFollowsTheEngine) {
  EXPECT_EQ(Get("/health").status, 200);
  EXPECT_EQ(Get("/health").body, "");
  api_.engine.SetReady(false);
  EXPECT_EQ(Get("/health").status, 503);
  EXPECT_EQ(Get("/ping").status, 503);
  const HttpAnswer refused = Post("/v1/completions", R"({"prompt":"x"})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.count("retry-after"), 1u);
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":"x","model":"gpt-9"})").status, 404);
  api_.engine.SetReady(true);
  EXPECT_EQ(Get("/health").status, 200);
}

TEST_F(HttpServerTest, HealthAnswersWhileAllPreparationIsBusy) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  for (int i = 0; i < 2; ++i) {
    api_.preparation.TrySubmit(PreparationLane::kOrdinary, [released] { released.wait(); });
  }
  EXPECT_EQ(Get("/health").status, 200);
  EXPECT_EQ(Get("/metrics").status, 200);
  release.set_value();
}

TEST_F(HttpServerTest, ModelsVersionMetricsTokens) {
  const Parsed models = Json(Get("/v1/models"));
  EXPECT_EQ(models["object"], "list");
  ASSERT_EQ(models["data"].size(), 2u);
  EXPECT_EQ(models["data"][0]["id"], "glm-nano");
  EXPECT_EQ(models["data"][0]["object"], "model");
  EXPECT_EQ(models["data"][0]["max_model_len"], 512);
  EXPECT_EQ(Json(Get("/v1/models/alias"))["id"], "alias");
  EXPECT_EQ(Json(Get("/v1/models/al%69as"))["id"], "alias");
  EXPECT_EQ(Get("/v1/models/other").status, 404);
  EXPECT_EQ(Json(Get("/version"))["version"], "9.8.7");
  const HttpAnswer metrics = Get("/metrics?x=1");
  EXPECT_THAT(metrics.headers.at("content-type"), HasSubstr("text/plain"));
  EXPECT_THAT(metrics.body, HasSubstr("sheaf_requests_total{"));
  const Parsed tokens = Json(Post("/tokenize", R"({"prompt":"ab","return_token_strs":true})"));
  EXPECT_EQ(tokens["tokens"], Parsed({257, 97, 98}));
  EXPECT_EQ(tokens["count"], 3);
  EXPECT_EQ(tokens["max_model_len"], 512);
  EXPECT_EQ(tokens["token_strs"], Parsed({"<prefix>", "a", "b"}));
  EXPECT_EQ(Json(Post("/tokenize", R"({"messages":[{"role":"user","content":"x"}]})"))["count"],
            19);
  EXPECT_EQ(Json(Post("/detokenize", R"({"tokens":[97,98]})"))["prompt"], "ab");
}

TEST_F(HttpServerTest, ClosedConnectionCancelsTheGeneration) {
  for (const bool stream : {false, true}) {
    const size_t index = api_.engine.submitted();
    {
      HttpClient client(server_->port());
      ASSERT_TRUE(
          client.SendRequest("POST", "/v1/completions",
                             stream ? R"({"prompt":"x","stream":true})" : R"({"prompt":"x"})"));
      ASSERT_TRUE(api_.engine.WaitForSubmit(index));
      if (stream) {
        api_.engine.Emit(index, ByteToken('x'));
        ASSERT_EQ(client.ReceiveHead().status, 200);
      }
    }
    EXPECT_TRUE(api_.engine.WaitForCancel(index));
  }
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="http",outcome="cancelled"} 2)"));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 0)"));
}

TEST_F(HttpServerTest, ClientThatDoesNotReadIsCutOff) {
  api_.limits.max_unsent_bytes = 1 << 20;
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":"x","stream":true})"));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  TokenEvent event = ByteToken('x');
  event.text = std::string(100000, 'y');
  // Socket buffers take some megabytes; then the bound must end it. 1 GB would be a leak.
  bool running = true;
  for (int i = 0; i < 10000 && running; ++i) running = api_.engine.Emit(0, event);
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="http",outcome="rejected"} 1)"));
}

TEST_F(HttpServerTest, HugeBodyIsRefusedWith413) {
  HttpClient client(server_->port());
  const std::string megabyte(1 << 20, ' ');
  ASSERT_TRUE(
      client.Send("POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 104857600\r\n\r\n"));
  // Like most clients this one reads only when it has sent everything.
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(client.Send(megabyte)) << "cut off after " << i << " MiB";
  const HttpAnswer answer = client.Receive();
  EXPECT_EQ(answer.status, 413);
  EXPECT_EQ(Json(answer)["error"]["code"], 413);
  EXPECT_EQ(answer.headers.at("connection"), "close");
}

TEST_F(HttpServerTest, HugeChunkedBodyIsRefusedWith413) {
  HttpClient client(server_->port());
  const std::string megabyte(1 << 20, ' ');
  ASSERT_TRUE(client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"));
  for (int i = 0; i < 17; ++i) ASSERT_TRUE(client.Send("100000\r\n" + megabyte + "\r\n"));
  EXPECT_EQ(client.Receive().status, 413);
}

TEST_F(HttpServerTest, WhatIsNotHttp) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.Send("\x16\x03\x01 hello\r\n\r\n"));
  EXPECT_EQ(client.Receive().status, 400);
  HttpClient long_header(server_->port());
  ASSERT_TRUE(long_header.Send("GET / HTTP/1.1\r\nX: " + std::string(64 << 10, 'x') + "\r\n\r\n"));
  EXPECT_EQ(long_header.Receive().status, 431);
}

TEST_F(HttpServerTest, KeepsConnectionsAndPipelines) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.Send(
      "GET /version HTTP/1.1\r\nHost: t\r\n\r\nGET /health HTTP/1.1\r\nHost: t\r\n\r\n"));
  EXPECT_EQ(client.Receive().status, 200);
  EXPECT_EQ(client.Receive().status, 200);
  ASSERT_TRUE(client.SendRequest("HEAD", "/version"));
  const HttpAnswer head = client.Receive(/*head_only=*/true);
  EXPECT_EQ(head.headers.at("content-length"), "19");
  ASSERT_TRUE(
      client.SendRequest("GET", "/version", "", "Connection: close\r\nX-Request-Id: my-name\r\n"));
  const HttpAnswer last = client.Receive();
  EXPECT_EQ(last.headers.at("x-request-id"), "my-name");
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(HttpServerTest, Expect100Continue) {
  api_.engine.SetAnswer(AnswerWith("a"));
  HttpClient client(server_->port());
  const std::string body = R"({"prompt":"x"})";
  ASSERT_TRUE(client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n"));
  EXPECT_EQ(client.ReceiveHead().status, 100);
  ASSERT_TRUE(client.Send(body));
  EXPECT_EQ(client.Receive().status, 200);
}

TEST_F(HttpServerTest, OldClientsGetAStreamThatEndsWithTheConnection) {
  api_.engine.SetAnswer(AnswerWith("ab"));
  HttpClient client(server_->port());
  const std::string body = R"({"prompt":"x","stream":true})";
  ASSERT_TRUE(client.Send("POST /v1/completions HTTP/1.0\r\nContent-Length: " +
                          std::to_string(body.size()) + "\r\n\r\n" + body));
  const HttpAnswer answer = client.Receive();
  EXPECT_EQ(answer.headers.count("transfer-encoding"), 0u);
  EXPECT_EQ(Chunks(answer).size(), 3u);
}

TEST_F(HttpServerTest, QuietStreamsArePinged) {
  options_.ping_interval = std::chrono::milliseconds(20);
  StartServer();
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":"x","stream":true})"));
  ASSERT_EQ(client.ReceiveHead().status, 200);
  EXPECT_EQ(client.ReceiveChunk(), ": waiting\n\n");
  // Past that point an error has to go into the stream.
  GenerationEnd end;
  end.reason = FinishReason::kError;
  end.status = absl::InternalError("broken");
  api_.engine.End(0, end);
  std::string rest;
  for (std::string chunk = client.ReceiveChunk(); !chunk.empty(); chunk = client.ReceiveChunk())
    rest += chunk;
  EXPECT_THAT(rest, HasSubstr(R"("message":"broken")"));
  EXPECT_THAT(rest, HasSubstr("data: [DONE]\n\n"));
}

TEST_F(HttpServerTest, SlowRequestsTimeOut) {
  options_.idle_timeout = std::chrono::milliseconds(50);
  options_.body_timeout = std::chrono::milliseconds(50);
  StartServer();
  HttpClient silent(server_->port());
  EXPECT_TRUE(silent.AtEnd());
  HttpClient half(server_->port());
  ASSERT_TRUE(half.Send("POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n{"));
  EXPECT_TRUE(half.AtEnd());
}

TEST_F(HttpServerTest, TooManyConnections) {
  options_.max_connections = 1;
  StartServer();
  HttpClient first(server_->port());
  ASSERT_EQ(first.Get("/health").status, 200);
  HttpClient second(server_->port());
  EXPECT_EQ(second.Receive().status, 503);
  EXPECT_EQ(first.Get("/health").status, 200);
}

TEST_F(HttpServerTest, StopLetsRepliesEndWithinItsPatience) {
  HttpClient client(server_->port());
  HttpClient idle(server_->port());
  ASSERT_EQ(idle.Get("/health").status, 200);
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":"x"})"));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  const uint16_t port = server_->port();
  auto stopped =
      std::async(std::launch::async, [this] { server_->Stop(std::chrono::seconds(10)); });
  EXPECT_TRUE(idle.AtEnd());
  api_.engine.Emit(0, ByteToken('x'));
  api_.engine.End(0, EndOf(api_.engine.request(0), FinishReason::kStop, 1));
  const HttpAnswer answer = client.Receive();
  EXPECT_EQ(answer.status, 200);
  stopped.get();
  EXPECT_FALSE(HttpClient(port).connected());
}

TEST_F(HttpServerTest, StopWithoutPatienceCancels) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":"x","stream":true})"));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  server_->Stop(std::chrono::milliseconds(0));
  server_.reset();
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
}

TEST_F(HttpServerTest, BusyPortIsAnError) {
  HttpServerOptions options;
  options.port = server_->port();
  const auto second = HttpServer::Start(options, Parts());
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(std::to_string(server_->port())));
}

TEST_F(HttpServerTest, ManyStreamsAtOnce) {
  api_.engine.SetAnswer(AnswerWith("0123456789"));
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&] {
      HttpClient client(server_->port());
      for (int i = 0; i < 25; ++i) {
        const HttpAnswer answer = client.Post("/v1/completions", R"({"prompt":"x","stream":true})");
        if (answer.status == 200 && answer.body.find("[DONE]") != std::string::npos) ++good;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 200);
}

}  // namespace
}  // namespace sheaf
