// Heads of requests as bytes: where they end, what is refused, and what they say.
#include "router/api/http/http_head.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using testing::HasSubstr;
using State = HeadScanner::State;

constexpr HttpSizeLimits kLimits{1 << 10, 1 << 10};

std::variant<HttpHead, HttpResponse> Parse(const std::string& bytes) {
  HttpRequestParser parser;
  return ParseHead(bytes, kLimits, parser);
}

HttpHead Head(const std::string& bytes) {
  auto parsed = Parse(bytes);
  if (auto* refusal = std::get_if<HttpResponse>(&parsed)) {
    ADD_FAILURE() << bytes << refusal->status << refusal->body;
    return {};
  }
  return std::get<HttpHead>(std::move(parsed));
}

// 0: accepted.
int StatusOf(const std::string& bytes) {
  const auto parsed = Parse(bytes);
  const auto* refusal = std::get_if<HttpResponse>(&parsed);
  return refusal == nullptr ? 0 : refusal->status;
}

std::string PathOf(const std::string& target) {
  return Head("GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n").path;
}

int StatusWith(const std::string& fields) {
  return StatusOf("POST /x HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n");
}

TEST(HttpHead, Targets) {
  EXPECT_EQ(PathOf("/v1/models"), "/v1/models");
  EXPECT_EQ(PathOf("/v1/models?x=/y%"), "/v1/models");
  EXPECT_EQ(PathOf("/v1/models/"), "/v1/models");
  EXPECT_EQ(PathOf("/v1/models/?x"), "/v1/models");
  EXPECT_EQ(PathOf("/v1/models/org%2Fname"), "/v1/models/org/name");
  EXPECT_EQ(PathOf("/v1/models/name%2F"), "/v1/models/name/");  // the slash is the name's
  EXPECT_EQ(PathOf("/%61%C3%A4+"), "/a\xC3\xA4+");              // + is a space in forms alone
  EXPECT_EQ(PathOf("/a%252F"), "/a%2F");                        // decoded once
  EXPECT_EQ(PathOf("/"), "/");
  EXPECT_EQ(PathOf("http://other:80/health?x"), "/health");
  EXPECT_EQ(PathOf("HTTPS://[::1]:8000"), "/");
  EXPECT_EQ(PathOf("http://other?x"), "/");
  EXPECT_EQ(Head("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").path, "*");
  for (const char* bad : {"*", "health", "/a%", "/a%2", "/a%zz", "/a#b", "ftp://h/", "http:///x",
                          "http://user@h/", "http://h:x/"}) {
    EXPECT_EQ(StatusOf(std::string("GET ") + bad + " HTTP/1.1\r\nHost: h\r\n\r\n"), 400) << bad;
  }
  EXPECT_EQ(StatusOf("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"), 501);
}

TEST(HttpHead, OneValidHost) {
  const auto status = [](const std::string& version, const std::string& fields) {
    return StatusOf("GET / HTTP/" + version + "\r\n" + fields + "\r\n");
  };
  EXPECT_EQ(status("1.1", ""), 400);
  EXPECT_EQ(status("1.0", ""), 0);
  EXPECT_EQ(status("1.1", "Host: a\r\nHost: a\r\n"), 400);
  EXPECT_EQ(status("1.0", "Host: a\r\nHost: b\r\n"), 400);
  for (const char* good : {"", "a", "a.b:8000", "a:", "127.0.0.1:1", "[::1]:65535", "[::1]", "a_b"})
    EXPECT_EQ(status("1.1", std::string("Host: ") + good + "\r\n"), 0) << good;
  for (const char* bad : {"a b", "a/b", "u@a", "a:b", "a:123456", "[::1", "[]", "[::1]x", "[g]",
                          "a,b:c", "http://a", "a\xC3\xA4"})
    EXPECT_EQ(status("1.1", std::string("Host: ") + bad + "\r\n"), 400) << bad;
  EXPECT_EQ(Head("GET http://Real:1/ HTTP/1.1\r\nHost: other\r\n\r\n").host, "real:1");
  EXPECT_EQ(status("2.0", "Host: a\r\n"), 505);
}

TEST(HttpHead, BodiesOfCertainLength) {
  EXPECT_EQ(StatusWith("Content-Length: 5\r\n"), 0);
  EXPECT_EQ(StatusWith("Transfer-Encoding: Chunked\r\n"), 0);
  EXPECT_EQ(StatusWith("Content-Length: 5\r\nContent-Length: 6\r\n"), 400);
  EXPECT_EQ(StatusWith("Content-Length: 5, 6\r\n"), 400);
  for (const char* bad : {"+5", "-5", "5x", "0x5", "99999999999999999999", ""})
    EXPECT_EQ(StatusWith(std::string("Content-Length: ") + bad + "\r\n"), 400) << bad;
  EXPECT_EQ(StatusWith("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400);
  EXPECT_EQ(StatusWith("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400);
  EXPECT_EQ(StatusWith("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n"), 501);
  for (const char* unknown : {"gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked"})
    EXPECT_EQ(StatusWith(std::string("Transfer-Encoding: ") + unknown + "\r\n"), 501) << unknown;
  EXPECT_EQ(StatusOf("POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(StatusWith("Content-Length: 1025\r\n"), 413);
  EXPECT_EQ(StatusWith("Content-Length : 5\r\n"), 400);
}

TEST(HttpHead, Expectations) {
  EXPECT_TRUE(Head("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n").expects_continue);
  EXPECT_EQ(StatusWith("Expect: 200-ok\r\n"), 417);
  EXPECT_FALSE(Head("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue);
}

TEST(HttpHead, RequestIdsThatAreHarmless) {
  const auto id = [](const std::string& value) {
    return Head("GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: " + value + "\r\n\r\n").request_id;
  };
  EXPECT_EQ(id("a-B_9.:"), "a-B_9.:");
  EXPECT_EQ(id("a b"), "");
  EXPECT_EQ(id("<script>"), "");
  EXPECT_EQ(id(std::string(129, 'a')), "");
}

TEST(HttpHead, TheTraceThatAClientBelongsTo) {
  const std::string parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const auto trace = [](const std::string& fields) {
    return Head("GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n").trace;
  };
  EXPECT_FALSE(trace("").has_value());
  const auto one = trace("TraceParent:  " + parent + "\r\ntracestate: a=1\r\nTracestate: b=2\r\n");
  ASSERT_TRUE(one.has_value());
  EXPECT_EQ(FormatTraceparent(*one), parent);
  EXPECT_EQ(one->trace_state, "a=1,b=2");
  EXPECT_FALSE(trace("traceparent: " + parent + "\r\ntraceparent: " + parent + "\r\n").has_value());
  EXPECT_FALSE(trace("traceparent: 00-x\r\n").has_value());
}

TEST(HeadScanner, EndsAtTheEmptyLine) {
  HeadScanner scanner;
  EXPECT_EQ(scanner.Scan("\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n"), State::kMore);
  EXPECT_EQ(scanner.Scan("\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\nbody\r\n\r\n"), State::kComplete);
  EXPECT_EQ(scanner.begin(), 4u);
  EXPECT_EQ(scanner.end(), 28u);
}

TEST(HeadScanner, RefusesWhatTwoServersReadDifferently) {
  struct Case {
    std::string bytes;
    const char* problem;
  };
  const Case cases[] = {
      {"GET / HTTP/1.1\n", "LF without CR"},
      {"GET / HTTP/1.1\rX", "CR without LF"},
      {"GET / HTTP/1.1\r\nA: b\r\n c", "folded"},
      {"GET / HTTP/1.1\r\nA: b\r\n\tc", "folded"},
      {"GET / HTTP/1.1\r\n A", "folded"},
      {" GET", "no method"},
      {"\x16\x03\x01", "no method"},  // TLS: at once, there may be no line's end
      {"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", "empty lines"},
  };
  for (const Case& bad : cases) {
    HeadScanner scanner;
    EXPECT_EQ(scanner.Scan(bad.bytes), State::kMalformed) << bad.bytes;
    EXPECT_THAT(scanner.problem(), HasSubstr(bad.problem));
  }
}

// However the bytes are cut, the scanner says the same as when they come together.
TEST(HeadScanner, CutsDoNotMatter) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  constexpr std::string_view kPieces[] = {"\r\n", "\r",  "\n", " ",       "\t",
                                          "a",    "GET", ":",  "\r\n\r\n"};
  int complete = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (size_t n = random() % 12; n > 0; --n) bytes += kPieces[random() % std::size(kPieces)];
    HeadScanner whole;
    const State expected = whole.Scan(bytes);
    HeadScanner cut;
    State state = State::kMore;
    for (size_t at = 0; state == State::kMore && at < bytes.size();) {
      at = std::min(bytes.size(), at + 1 + random() % 4);
      state = cut.Scan(std::string_view(bytes).substr(0, at));
    }
    ASSERT_EQ(state, expected) << testing::PrintToString(bytes);
    ASSERT_STREQ(cut.problem(), whole.problem()) << testing::PrintToString(bytes);
    if (state != State::kComplete) continue;
    ++complete;
    ASSERT_EQ(cut.end(), whole.end());
    ASSERT_EQ(cut.begin(), whole.begin());
  }
  EXPECT_GT(complete, 0);
}

}  // namespace
}  // namespace sheaf
