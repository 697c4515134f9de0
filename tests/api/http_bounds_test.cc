// Bodies share a budget, and a request of a client that has left costs nothing more.
#include <future>
#include <latch>

#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

class HttpBounds : public HttpFixture {
 protected:
  void SetUp() override {
    api_.budget.emplace(
        ByteBudget::Options{.total_bytes = 4000, .reserve_bytes = 1000, .small_bytes = 100});
    HttpServerParts parts = Parts();
    parts.body_bytes = &*api_.budget;
    auto server = HttpServer::Start(options_, parts);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // Both threads of the pool wait until the latch opens.
  void BlockPreparation(const std::shared_ptr<std::latch>& open) {
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(api_.preparation.TrySubmit(PreparationLane::kOrdinary, [open] { open->wait(); }));
    }
  }
  static std::string Body(size_t bytes) {
    const std::string frame = R"({"prompt":""})";
    return R"({"prompt":")" + std::string(bytes - frame.size(), 'x') + R"("})";
  }
  size_t used_bytes() { return api_.budget->used_bytes(); }
  bool WaitForBudget(size_t bytes) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (used_bytes() != bytes) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }
};

TEST_F(HttpBounds, ABodyWithoutRoomIsRefusedBeforeItIsRead) {
  HttpClient first(server_->port());
  ASSERT_TRUE(first.Send("POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 2500\r\n\r\n{"));
  ASSERT_TRUE(WaitForBudget(2500));
  HttpClient second(server_->port());
  ASSERT_TRUE(second.Send("POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 600\r\n\r\n"));
  const HttpAnswer refused = second.Receive();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_THAT(refused.body, HasSubstr("Too many bytes of requests"));
  EXPECT_EQ(Post("/tokenize", Body(90)).status, 200) << "the reserve is for small ones";
  first.Close();
  EXPECT_TRUE(WaitForBudget(0));
  EXPECT_EQ(Post("/tokenize", Body(400)).status, 200);
}

TEST_F(HttpBounds, AChunkedBodyIsRefusedWhereItBecomesTooLong) {
  HttpClient client(server_->port());
  std::string request = "POST /tokenize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 8; ++i) request += "1f4\r\n" + std::string(500, ' ') + "\r\n";
  ASSERT_TRUE(client.Send(request + "0\r\n\r\n"));
  EXPECT_EQ(client.Receive().status, 503);
  EXPECT_TRUE(WaitForBudget(0));
}

TEST_F(HttpBounds, ABodyCountsUntilItsRequestIsPrepared) {
  const auto open = std::make_shared<std::latch>(1);
  BlockPreparation(open);
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", Body(400)));
  ASSERT_TRUE(WaitForBudget(400));
  open->count_down();
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  EXPECT_TRUE(WaitForBudget(0)) << "it runs, and its body is gone";
  api_.engine.End(0, EndOf(api_.engine.request(0), FinishReason::kStop, 1));
  EXPECT_EQ(client.Receive().status, 200);
}

TEST_F(HttpBounds, AGuidedRequestCountsThroughBothLanes) {
  const auto open = std::make_shared<std::latch>(1);
  ASSERT_TRUE(api_.preparation.TrySubmit(PreparationLane::kGuided, [open] { open->wait(); }));
  HttpClient client(server_->port());
  const std::string body = R"({"prompt":"x","guided_regex":"a+"})";
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", body));
  ASSERT_TRUE(WaitForBudget(body.size()));
  const auto both = std::make_shared<std::latch>(2);  // who waits on it may leave after this test
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(api_.preparation.TrySubmit(PreparationLane::kOrdinary,
                                           [both] { both->arrive_and_wait(); }));
  }
  both->wait();
  EXPECT_EQ(used_bytes(), body.size());
  open->count_down();
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  EXPECT_TRUE(WaitForBudget(0));
}

TEST_F(HttpBounds, AClientThatLeavesIsNotTokenized) {
  const auto open = std::make_shared<std::latch>(1);
  BlockPreparation(open);
  {
    HttpClient client(server_->port());
    ASSERT_TRUE(client.SendRequest("POST", "/tokenize", Body(400)));
    ASSERT_TRUE(WaitForBudget(400));
  }
  // The server has noticed when it no longer counts the connection.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (api_.Metrics().find("sheaf_connections{face=\"http\"} 0\n") == std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << api_.Metrics();
    std::this_thread::yield();
  }
  open->count_down();
  EXPECT_TRUE(WaitForBudget(0));
  EXPECT_EQ(api_.codec.encoded, 0);
}

// Its prompt is being tokenized: the routes must stay until that has noticed.
TEST_F(HttpBounds, StopWaitsForThePromptOfAClientThatLeft) {
  std::promise<void> begun, release;
  std::atomic<bool> ended = false;
  api_.codec.on_encode = [&, released = release.get_future().share()](std::string_view) {
    begun.set_value();
    released.wait();
    ended = true;
  };
  {
    HttpClient client(server_->port());
    ASSERT_TRUE(client.SendRequest("POST", "/tokenize", Body(400)));
    ASSERT_EQ(begun.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  }
  std::atomic<bool> stopped = false;
  std::thread stop([&] {
    server_->Stop(std::chrono::milliseconds(0));
    EXPECT_TRUE(ended) << "a route was still at work";
    stopped = true;
  });
  // Its port is shut by then, and all that is left to wait for is the route.
  while (HttpClient(server_->port()).connected() && !stopped) std::this_thread::yield();
  release.set_value();
  stop.join();
}

TEST_F(HttpBounds, HeadersSayWhoseShareARequestIs) {
  api_.engine.SetAnswer(AnswerWith("a"));
  const auto key_of = [&](const std::string& headers) {
    HttpClient client(server_->port());
    EXPECT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":"x"})", headers));
    EXPECT_EQ(client.Receive().status, 200);
    return api_.engine.request(api_.engine.submitted() - 1).fairness_key;
  };
  EXPECT_EQ(key_of(""), "");
  EXPECT_EQ(key_of("X-Fairness-Key: team\r\nAuthorization: Bearer sk-1\r\n"), "key:team");
  const std::string hashed = key_of("Authorization: Bearer sk-1\r\n");
  EXPECT_EQ(hashed.substr(0, 4), "api:");
  EXPECT_EQ(hashed, key_of("authorization: bearer sk-1\r\n"));
}

}  // namespace
}  // namespace sheaf
