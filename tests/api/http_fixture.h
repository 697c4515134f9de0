#pragma once
// A real HTTP server on a free loopback port, over the fakes.

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "router/api/http/http_server.h"
#include "router/api/http_endpoints.h"
#include "tests/api/api_fixture.h"
#include "tests/api/http_client.h"

namespace sheaf {

using Parsed = nlohmann::json;

class HttpFixture : public testing::Test {
 protected:
  void SetUp() override {
    options_.idle_timeout = std::chrono::seconds(20);
    StartServer();
  }

  void StartServer() {
    server_.reset();
    auto server = HttpServer::Start(options_, Parts());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    ASSERT_NE(server_->port(), 0);
  }

  HttpServerParts Parts() {
    return {router_,    &api_.preparation,   &api_.metrics,
            api_.clock, api_.context.random, api_.context.unix_seconds};
  }

  HttpAnswer Post(const std::string& path, const std::string& body) {
    return HttpClient(server_->port()).Post(path, body);
  }
  HttpAnswer Get(const std::string& path) { return HttpClient(server_->port()).Get(path); }

  static Parsed Json(const HttpAnswer& answer) {
    Parsed json = Parsed::parse(answer.body, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << answer.body;
    return json;
  }

  // The events' data of a whole stream; checks the framing.
  static std::vector<std::string> Events(const std::string& body) {
    std::vector<std::string> events;
    size_t at = 0;
    while (at < body.size()) {
      const size_t end = body.find("\n\n", at);
      if (end == std::string::npos) {
        ADD_FAILURE() << "an event without its end: " << body.substr(at);
        break;
      }
      const std::string event = body.substr(at, end - at);
      if (event.rfind(":", 0) != 0) {  // not a comment
        EXPECT_EQ(event.rfind("data: ", 0), 0u) << event;
        EXPECT_EQ(event.find('\n'), std::string::npos) << event;
        events.push_back(event.substr(6));
      }
      at = end + 2;
    }
    return events;
  }

  // All events of a well-ended stream, without [DONE].
  static std::vector<Parsed> Chunks(const HttpAnswer& answer) {
    EXPECT_EQ(answer.status, 200) << answer.body;
    std::vector<std::string> events = Events(answer.body);
    std::vector<Parsed> chunks;
    if (events.empty() || events.back() != "[DONE]") {
      ADD_FAILURE() << "no [DONE]: " << answer.body;
      return chunks;
    }
    events.pop_back();
    for (const std::string& event : events) chunks.push_back(Parsed::parse(event));
    return chunks;
  }

  ApiFixture api_;
  HttpRouter router_ = MakeHttpRouter(api_.context, api_.registry);
  HttpServerOptions options_;
  std::unique_ptr<HttpServer> server_;  // first to go
};

}  // namespace sheaf
