#include "router/ui/page_route.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "router/api/http/http_message.h"

namespace sheaf {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string FieldOf(const HttpResponse& response, const std::string& name) {
  for (const auto& [field, value] : response.headers) {
    if (field == name) return value;
  }
  return "";
}

HttpResponse Ask(const HttpRoute& route) {
  HttpRequest request;
  request.method = "GET";
  request.path = "/";
  return std::get<HttpResponse>(route.handler(request));
}

TEST(PageRoute, ServesTheBytesOfTheSource) {
  std::ifstream file(std::string(SHEAF_SOURCE_DIR) + "/router/ui/page.html", std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  const HttpRoute route = PageRoute("");
  EXPECT_EQ(route.method, "GET");
  EXPECT_EQ(route.path, "/");
  EXPECT_TRUE(route.instant);
  const HttpResponse response = Ask(route);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.content_type, "text/html; charset=utf-8");
  ASSERT_FALSE(response.body.empty());
  EXPECT_EQ(response.body, bytes.str());
}

TEST(PageRoute, ThePolicyNamesWhatMayRunAndNothingElse) {
  // SHA-256 of "a" and of "b", by sha256sum.
  const HttpResponse response =
      PageResponse("<style>b</style><script>a</script><script>c</script>");
  const std::string policy = FieldOf(response, "Content-Security-Policy");
  EXPECT_THAT(policy,
              HasSubstr("script-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=';"));
  EXPECT_THAT(policy,
              HasSubstr("style-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0=';"));
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy, HasSubstr("connect-src 'self'"));
  EXPECT_THAT(policy, HasSubstr("frame-ancestors 'none'"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  EXPECT_EQ(FieldOf(response, "X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(FieldOf(response, "Referrer-Policy"), "no-referrer");
}

TEST(PageRoute, AFileIsReadAnewAndItsLossIsNamed) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("sheaf-page-" + std::to_string(getpid()) + ".html");
  const HttpRoute route = PageRoute(path.string());
  EXPECT_FALSE(route.instant) << "it reads a file";
  for (const char* text : {"one", "two"}) {
    std::ofstream(path, std::ios::trunc) << text;
    EXPECT_EQ(Ask(route).body, text);
  }
  std::filesystem::remove(path);
  const HttpResponse gone = Ask(route);
  EXPECT_EQ(gone.status, 500);
  EXPECT_THAT(gone.body, HasSubstr(path.string()));
}

}  // namespace
}  // namespace sheaf
