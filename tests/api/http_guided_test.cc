// Requests whose grammar takes long to compile, beside others.
#include <chrono>
#include <future>
#include <thread>

#include "gmock/gmock.h"
#include "tests/api/compile_gate.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

constexpr const char* kGuidedBody =
    R"({"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}})";
constexpr const char* kTools =
    R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])";

std::string ChatBody(const std::string& further) {
  return R"({"messages":[{"role":"user","content":"x"}],)" + further + "}";
}

class HttpGuided : public HttpFixture {
 protected:
  void SetUp() override {
    api_.codec.format.tools = TagFormat::kGlm45;
    HttpFixture::SetUp();
  }

  bool SendGuided(HttpClient& client) {
    return client.SendRequest("POST", "/v1/chat/completions", kGuidedBody);
  }

  // Until all guided work that was there before has run.
  void AwaitGuidedLane() {
    std::promise<void> reached;
    // The lane may still be full.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!api_.preparation.TrySubmit(PreparationLane::kGuided, [&] { reached.set_value(); })) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::yield();
    }
    reached.get_future().wait();
  }

  bool WaitForMetric(const std::string& line) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      if (api_.Metrics().find(line + "\n") != std::string::npos) return true;
      std::this_thread::yield();
    }
    return false;
  }
};

TEST_F(HttpGuided, OthersAreServedWhileGrammarsAreCompiled) {
  api_.engine.SetAnswer(AnswerWith("{}"));
  CompileGate gate(api_.codec);
  HttpClient first(server_->port());
  HttpClient second(server_->port());
  ASSERT_TRUE(SendGuided(first));
  ASSERT_TRUE(gate.WaitForBegun(1));
  ASSERT_TRUE(SendGuided(second));
  for (int i = 0; i < 4; ++i) {  // more than the pool has threads
    EXPECT_EQ(Post("/v1/completions", R"({"prompt":"x"})").status, 200);
    EXPECT_EQ(Post("/v1/chat/completions", ChatBody(kTools)).status, 200);
    EXPECT_EQ(Post("/tokenize", R"({"prompt":"x"})").status, 200);
  }
  EXPECT_EQ(gate.begun(), 1) << "two grammars at a time";
  gate.Open();
  EXPECT_EQ(first.Receive().status, 200);
  EXPECT_EQ(second.Receive().status, 200);
  EXPECT_EQ(api_.codec.compiled.size(), 2u);
}

TEST_F(HttpGuided, WhateverNeedsAGrammarGoesAside) {
  api_.engine.SetAnswer(AnswerWith("x"));
  const std::string strict = R"("tools":[{"type":"function","function":{"name":"f","strict":true,)"
                             R"("parameters":{"type":"object"}}}])";
  const std::string chat = "/v1/chat/completions";
  const std::pair<std::string, std::string> cases[] = {
      {chat, ChatBody(R"("response_format":{"type":"json_schema",)"
                      R"("json_schema":{"name":"a","schema":{}}})")},
      {chat, ChatBody(R"("structured_outputs":{"regex":"x"})")},
      {chat, ChatBody(strict)},
      {chat, ChatBody(std::string(kTools) + R"(,"tool_choice":"required")")},
      {chat, ChatBody(std::string(kTools) +
                      R"(,"tool_choice":{"type":"function","function":{"name":"f"}})")},
      {chat, ChatBody(std::string(kTools) + R"(,"parallel_tool_calls":false)")},
      {chat + "/render", kGuidedBody},
      {"/v1/completions", R"({"prompt":"x","structured_outputs":{"choice":["a"]}})"},
  };
  for (const auto& [path, body] : cases) {
    SCOPED_TRACE(path + " " + body);
    CompileGate gate(api_.codec);
    HttpClient guided(server_->port());
    ASSERT_TRUE(guided.SendRequest("POST", path, body));
    ASSERT_TRUE(gate.WaitForBegun(1));
    // Both ordinary threads are free: neither of these waits.
    HttpClient plain(server_->port());
    EXPECT_EQ(plain.Post("/v1/completions", R"({"prompt":"x"})").status, 200);
    gate.Open();
    EXPECT_EQ(guided.Receive().status, 200);
  }
}

TEST_F(HttpGuided, AFullLaneRefusesGuidedRequestsAlone) {
  api_.engine.SetAnswer(AnswerWith("{}"));
  CompileGate gate(api_.codec);
  HttpClient first(server_->port());
  ASSERT_TRUE(SendGuided(first));
  ASSERT_TRUE(gate.WaitForBegun(1));
  while (api_.preparation.TrySubmit(PreparationLane::kGuided, [] {})) {
  }
  const HttpAnswer refused = Post("/v1/chat/completions", kGuidedBody);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.count("retry-after"), 1u);
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":"x"})").status, 200);
  gate.Open();
  EXPECT_EQ(first.Receive().status, 200);
}

TEST_F(HttpGuided, ErrorsAndStreamsComeThrough) {
  const HttpAnswer wrong =
      Post("/v1/chat/completions",
           ChatBody(R"("response_format":)"
                    R"({"type":"json_schema","json_schema":{"name":"a","schema":"wrong"}})"));
  EXPECT_EQ(wrong.status, 400) << wrong.body;
  api_.engine.SetAnswer(AnswerWith("{}"));
  // Two on one connection, a stream and a whole answer.
  HttpClient client(server_->port());
  const HttpAnswer stream =
      client.Post("/v1/chat/completions",
                  ChatBody(R"("stream":true,"response_format":{"type":"json_object"})"));
  EXPECT_EQ(stream.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_GE(Chunks(stream).size(), 3u);
  EXPECT_EQ(
      Json(client.Post("/v1/chat/completions", kGuidedBody))["choices"][0]["message"]["content"],
      "{}");
}

TEST_F(HttpGuided, ClientsThatLeaveWhileTheyWaitCostNoCompilation) {
  CompileGate gate(api_.codec);
  HttpClient first(server_->port());
  ASSERT_TRUE(SendGuided(first));
  ASSERT_TRUE(gate.WaitForBegun(1));
  {
    HttpClient second(server_->port());
    ASSERT_TRUE(SendGuided(second));
    ASSERT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 2)"));
  }
  ASSERT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 1)"));
  gate.Open();
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  AwaitGuidedLane();
  EXPECT_EQ(gate.begun(), 1);
  EXPECT_EQ(api_.engine.submitted(), 1u);
}

TEST_F(HttpGuided, ClientsThatLeaveWhileTheirsIsCompiledAreCancelled) {
  CompileGate gate(api_.codec);
  {
    HttpClient client(server_->port());
    ASSERT_TRUE(SendGuided(client));
    ASSERT_TRUE(gate.WaitForBegun(1));
  }
  ASSERT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 0)"));
  gate.Open();
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="http",outcome="cancelled"} 1)"));
}

TEST_F(HttpGuided, NothingIsCompiledAfterStop) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  ASSERT_TRUE(
      api_.preparation.TrySubmit(PreparationLane::kGuided, [released] { released.wait(); }));
  CompileGate gate(api_.codec);
  gate.Open();
  HttpClient client(server_->port());
  ASSERT_TRUE(SendGuided(client));
  ASSERT_TRUE(WaitForMetric(R"(sheaf_connections{face="http"} 1)"));
  server_->Stop(std::chrono::milliseconds(0));
  server_.reset();
  release.set_value();
  AwaitGuidedLane();
  EXPECT_EQ(gate.begun(), 0);
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

}  // namespace
}  // namespace sheaf
