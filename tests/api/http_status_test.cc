// Probes and load, as operators and load balancers see them.
#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

class HttpStatus : public HttpFixture {
 protected:
  void ExpectAll(std::initializer_list<const char*> paths, int status, const char* word) {
    for (const char* path : paths) {
      SCOPED_TRACE(path);
      const HttpAnswer answer = Get(path);
      EXPECT_EQ(answer.status, status);
      const Parsed json = Json(answer);
      EXPECT_EQ(json["status"], word);
      EXPECT_EQ(json.contains("reason"), status == 503);
    }
  }
  void ExpectLive(int status, const char* word) {
    ExpectAll({"/live", "/livez", "/health/live"}, status, word);
  }
  void ExpectReady(int status, const char* word) {
    ExpectAll({"/ready", "/readyz", "/health/ready", "/ready/"}, status, word);
  }
};

TEST_F(HttpStatus, LostWorkersMakeItUnreadyButNotDead) {
  ExpectLive(200, "live");
  ExpectReady(200, "ready");
  api_.engine.SetReady(false);
  ExpectLive(200, "live");
  ExpectReady(503, "not ready");
  EXPECT_THAT(Json(Get("/ready"))["reason"].get<std::string>(), HasSubstr("experts are missing"));
  EXPECT_EQ(Get("/health").status, 503);
}

TEST_F(HttpStatus, HungEngineIsNeitherLiveNorReady) {
  api_.engine.SetLive(false);
  ExpectLive(503, "not live");
  ExpectReady(503, "not ready");
  EXPECT_THAT(Json(Get("/live"))["reason"].get<std::string>(), HasSubstr("step"));
  EXPECT_THAT(Json(Get("/ready"))["reason"].get<std::string>(), HasSubstr("step"));
  api_.engine.SetLive(true);
  ExpectLive(200, "live");
  ExpectReady(200, "ready");
}

TEST_F(HttpStatus, LoadCountsWhatRunsAndWhatWaits) {
  EngineLoad load;
  load.running = 3;
  load.queued = 4;
  api_.engine.SetLoad(load);
  EXPECT_EQ(Json(Get("/load")), Parsed({{"server_load", 7}, {"running", 3}, {"queued", 4}}));
}

TEST_F(HttpStatus, PingByBothMethods) {
  EXPECT_EQ(Get("/ping").status, 200);
  EXPECT_EQ(Post("/ping", "").status, 200);
  api_.engine.SetReady(false);
  EXPECT_EQ(Get("/ping").status, 503);
  EXPECT_EQ(Post("/ping", "").status, 503);
}

}  // namespace
}  // namespace sheaf
