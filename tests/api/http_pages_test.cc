// Web pages of other origins, over the wire: what origin_policy_test.cc checks as a function.
#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr const char* kBody = R"({"prompt":"x"})";
constexpr const char* kPage = "https://ui.example.com";

class HttpPages : public HttpFixture {
 protected:
  void Allow(std::vector<std::string> origins) {
    options_.allowed_origins = std::move(origins);
    StartServer();
  }

  HttpAnswer Send(const std::string& method, const std::string& path, const std::string& fields,
                  const std::string& body = "") {
    HttpClient client(server_->port());
    if (!client.SendRequest(method, path, body, fields)) return {};
    return client.Receive(/*head_only=*/method == "OPTIONS");
  }
  HttpAnswer PostFrom(const std::string& origin) {
    return Send("POST", "/v1/completions",
                "Origin: " + origin + "\r\nContent-Type: application/json\r\n", kBody);
  }
};

TEST_F(HttpPages, OthersAreRefusedBeforeAnyWork) {
  const HttpAnswer refused = PostFrom(kPage);
  EXPECT_EQ(refused.status, 403);
  EXPECT_THAT(Json(refused)["error"]["message"].get<std::string>(), HasSubstr("--allowed-origins"));
  EXPECT_EQ(PostFrom("null").status, 403);
  // A name bound to 127.0.0.1 after its page was loaded: SendRequest says Host: test.
  EXPECT_EQ(PostFrom("http://test").status, 403);
  EXPECT_EQ(Send("GET", "/v1/models", "Origin: https://ui.example.com\r\n").status, 403);
  const HttpAnswer preflight =
      Send("OPTIONS", "/v1/completions",
           "Origin: https://ui.example.com\r\nAccess-Control-Request-Method: POST\r\n");
  EXPECT_EQ(preflight.status, 403);
  EXPECT_EQ(preflight.headers.count("access-control-allow-origin"), 0u);
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

TEST_F(HttpPages, OwnPagesMay) {
  api_.engine.SetAnswer(AnswerWith("a"));
  const std::string host = "127.0.0.1:" + std::to_string(server_->port());
  HttpClient client(server_->port());
  ASSERT_TRUE(
      client.Send("POST /v1/completions HTTP/1.1\r\nHost: " + host + "\r\nOrigin: http://" + host +
                  "\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n" + kBody));
  EXPECT_EQ(client.Receive().status, 200);
}

TEST_F(HttpPages, TypesOfFormsAreRefusedWithAHint) {
  api_.engine.SetAnswer(AnswerWith("a"));
  for (const char* type :
       {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"}) {
    const HttpAnswer answer =
        Send("POST", "/v1/completions", "Content-Type: " + std::string(type) + "\r\n", kBody);
    EXPECT_EQ(answer.status, 415) << type;
    EXPECT_THAT(Json(answer)["error"]["message"].get<std::string>(),
                HasSubstr("-H 'Content-Type: application/json'"));
  }
  EXPECT_EQ(api_.engine.submitted(), 0u);
  EXPECT_EQ(Send("POST", "/v1/completions", "", kBody).status, 200);
}

TEST_F(HttpPages, AllowedOnesAskFirstAndAreTold) {
  Allow({kPage});
  const std::string from = "Origin: " + std::string(kPage) + "\r\n";
  const HttpAnswer preflight =
      Send("OPTIONS", "/v1/completions",
           from +
               "Access-Control-Request-Method: POST\r\n"
               "Access-Control-Request-Headers: authorization, content-type\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.at("access-control-allow-origin"), kPage);
  EXPECT_EQ(preflight.headers.at("access-control-allow-methods"), "OPTIONS, POST");
  EXPECT_EQ(preflight.headers.at("access-control-allow-headers"), "authorization, content-type");
  EXPECT_EQ(preflight.headers.at("access-control-max-age"), "600");
  EXPECT_EQ(preflight.headers.at("vary"), "Origin");

  api_.engine.SetAnswer(AnswerWith("a"));
  const std::string json = from + "Content-Type: application/json\r\n";
  // Whole answers, streams and errors alike.
  const HttpAnswer answers[] = {
      PostFrom(kPage), Send("POST", "/v1/completions", json, R"({"prompt":"x","stream":true})"),
      Send("POST", "/v1/completions", json, "{}"), Send("GET", "/nowhere", from)};
  const int statuses[] = {200, 200, 400, 404};
  for (size_t i = 0; i < 4; ++i) {
    SCOPED_TRACE(answers[i].body);
    EXPECT_EQ(answers[i].status, statuses[i]);
    EXPECT_EQ(answers[i].headers.at("access-control-allow-origin"), kPage);
    EXPECT_EQ(answers[i].headers.at("vary"), "Origin");
  }
  EXPECT_EQ(PostFrom("https://evil.example").status, 403);
}

TEST_F(HttpPages, AllMayWhereAStarIsAllowed) {
  Allow({"*"});
  api_.engine.SetAnswer(AnswerWith("a"));
  const HttpAnswer answer = PostFrom("https://anything.example");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("access-control-allow-origin"), "*");
  EXPECT_EQ(Send("POST", "/v1/completions", "Content-Type: text/plain\r\n", kBody).status, 415);
}

}  // namespace
}  // namespace sheaf
