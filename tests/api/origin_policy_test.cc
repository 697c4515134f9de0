// Which web pages may use the server.
#include "router/api/http/origin_policy.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

HttpHead Post(std::optional<std::string> origin, std::string host = "localhost:8000",
              std::vector<std::string> types = {"application/json"}) {
  HttpHead head;
  head.method = "POST";
  head.host = std::move(host);
  head.origin = std::move(origin);
  head.content_types = std::move(types);
  return head;
}

// 0: may be answered.
int Refusal(const OriginPolicy& policy, const HttpHead& head) {
  const auto refusal = policy.Refuse(head);
  return refusal ? refusal->status : 0;
}

TEST(OriginPolicy, NormalForm) {
  EXPECT_EQ(NormalOrigin("https://UI.example.com:443"), "https://ui.example.com");
  EXPECT_EQ(NormalOrigin("http://a:80"), "http://a");
  EXPECT_EQ(NormalOrigin("http://a:443"), "http://a:443");
  EXPECT_EQ(NormalOrigin("http://[::1]:8000"), "http://[::1]:8000");
  EXPECT_EQ(NormalOrigin("chrome-extension://abcdef"), "chrome-extension://abcdef");
  EXPECT_EQ(NormalOrigin("null"), "null");
  for (const char* bad : {"", "*", "a", "http://", "://a", "http://a/", "http://a/b", "http://u@a",
                          "http://:80", "http://a b", "ht tp://a"})
    EXPECT_EQ(NormalOrigin(bad), std::nullopt) << bad;
}

TEST(OriginPolicy, OwnPagesOnlyUnlessAllowed) {
  const OriginPolicy closed({}, /*listens_on_loopback=*/false);
  EXPECT_EQ(Refusal(closed, Post(std::nullopt)), 0);
  EXPECT_EQ(Refusal(closed, Post("http://localhost:8000")), 0);
  EXPECT_EQ(Refusal(closed, Post("https://api.example.com", "api.example.com")), 0);
  EXPECT_EQ(Refusal(closed, Post("https://api.example.com", "api.example.com:443")), 0);
  EXPECT_EQ(Refusal(closed, Post("http://localhost:3000")), 403);
  EXPECT_EQ(Refusal(closed, Post("https://evil.example")), 403);
  EXPECT_EQ(Refusal(closed, Post("null")), 403);
  EXPECT_EQ(Refusal(closed, Post("")), 403);
  EXPECT_EQ(Refusal(closed, Post("http://localhost:8000/")), 403);  // no browser writes that
  HttpHead get = Post("https://evil.example");
  get.method = "GET";
  EXPECT_EQ(Refusal(closed, get), 403);
  EXPECT_THAT(closed.Refuse(get)->body, HasSubstr("--allowed-origins"));

  const OriginPolicy listed({"https://ui.example.com:443", "null"}, false);
  EXPECT_EQ(Refusal(listed, Post("https://ui.example.com")), 0);
  EXPECT_EQ(Refusal(listed, Post("null")), 0);
  EXPECT_EQ(Refusal(listed, Post("http://localhost:8000")), 0);
  EXPECT_EQ(Refusal(listed, Post("http://ui.example.com")), 403);
  EXPECT_EQ(Refusal(listed, Post("https://xui.example.com")), 403);
  EXPECT_EQ(Refusal(OriginPolicy({"*"}, true), Post("https://evil.example")), 0);
}

// A name that was bound to 127.0.0.1 after its page was loaded: Origin and Host agree.
TEST(OriginPolicy, PageOfAReboundNameIsNotOurs) {
  const OriginPolicy loopback({}, /*listens_on_loopback=*/true);
  EXPECT_EQ(Refusal(loopback, Post("http://evil.example:8000", "evil.example:8000")), 403);
  EXPECT_EQ(Refusal(loopback, Post("http://127.evil.example:1", "127.evil.example:1")), 403);
  for (const char* host : {"localhost:8000", "127.0.0.1:8000", "[::1]:8000", "a.localhost:8000"})
    EXPECT_EQ(Refusal(loopback, Post(std::string("http://") + host, host)), 0) << host;
  // No page: behind a proxy or a forwarded port the name may be any.
  EXPECT_EQ(Refusal(loopback, Post(std::nullopt, "api.example.com")), 0);
}

TEST(OriginPolicy, TypesThatAPageMaySendWithoutAsking) {
  const OriginPolicy closed({}, true);
  for (const char* type :
       {"text/plain", "TEXT/plain; charset=utf-8", "text/plain ;x",
        "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"}) {
    EXPECT_EQ(Refusal(closed, Post(std::nullopt, "localhost", {type})), 415) << type;
    EXPECT_EQ(Refusal(closed, Post(std::nullopt, "localhost", {"application/json", type})), 415);
  }
  for (const char* type : {"application/json", "application/json; charset=utf-8", "text/json",
                           "application/octet-stream"})
    EXPECT_EQ(Refusal(closed, Post(std::nullopt, "localhost", {type})), 0) << type;
  EXPECT_EQ(Refusal(closed, Post(std::nullopt, "localhost", {})), 0);
  EXPECT_EQ(Refusal(closed, Post("http://localhost", "localhost", {})), 415);
  EXPECT_THAT(closed.Refuse(Post(std::nullopt, "a", {"text/plain"}))->body,
              HasSubstr("-H 'Content-Type: application/json'"));
}

TEST(OriginPolicy, FieldsOfAnswers) {
  const HttpHead head = Post("https://ui.example.com");
  EXPECT_TRUE(OriginPolicy({}, true).AnswerFields(Post("http://localhost:8000")).empty());
  const OriginPolicy listed({"https://ui.example.com"}, true);
  EXPECT_THAT(listed.AnswerFields(head),
              UnorderedElementsAre(Pair("Vary", "Origin"),
                                   Pair("Access-Control-Allow-Origin", "https://ui.example.com"),
                                   Pair("Access-Control-Expose-Headers", testing::_)));
  EXPECT_THAT(listed.AnswerFields(Post("https://evil.example")),
              UnorderedElementsAre(Pair("Vary", "Origin")));
  EXPECT_THAT(listed.AnswerFields(Post(std::nullopt)),
              UnorderedElementsAre(Pair("Vary", "Origin")));
  EXPECT_THAT(OriginPolicy({"*"}, true).AnswerFields(head),
              UnorderedElementsAre(Pair("Access-Control-Allow-Origin", "*"),
                                   Pair("Access-Control-Expose-Headers", testing::_)));
}

}  // namespace
}  // namespace sheaf
