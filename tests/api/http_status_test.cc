// Probes and load, as operators and load balancers see them.
#include <atomic>

#include "gmock/gmock.h"
#include "router/api/generation/engine_gate.h"
#include "router/api/status/loading_endpoints.h"
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

TEST_F(HttpStatus, WhileWeightsLoadOnlyProbesAreAnswered) {
  std::atomic<double> progress{0};
  const HttpRouter loading = MakeLoadingRouter([&] { return progress.load(); }, api_.registry);
  server_->Use(loading);
  progress = 0.4217;
  for (const char* path : {"/health", "/ready", "/readyz", "/health/ready", "/ping"}) {
    SCOPED_TRACE(path);
    const HttpAnswer answer = Get(path);
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(Json(answer), Parsed({{"status", "loading"}, {"progress", 0.421}}));
  }
  ExpectLive(200, "live");
  EXPECT_EQ(Get("/metrics").status, 200);
  const HttpAnswer refused = Post("/v1/completions", "{}");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_EQ(Json(refused)["error"]["code"], 503);
  EXPECT_EQ(Get("/v1/models").status, 503);
  server_->Use(router_);
  ExpectReady(200, "ready");
  EXPECT_EQ(Get("/v1/models").status, 200);
  server_.reset();  // before its routes
}

TEST(EngineGate, RefusesUntilTheEngineIsThere) {
  FakeGenerationEngine engine;
  EngineGate gate(4096);
  EXPECT_TRUE(gate.live());
  EXPECT_FALSE(gate.ready());
  EXPECT_EQ(gate.max_model_len(), 4096);
  EXPECT_EQ(gate.Submit({}, nullptr).status().code(), absl::StatusCode::kUnavailable);
  gate.Cancel(SequenceId{});
  gate.Open(engine);
  EXPECT_TRUE(gate.ready());
  engine.SetLive(false);
  EXPECT_FALSE(gate.live());
}

}  // namespace
}  // namespace sheaf
