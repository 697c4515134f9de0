// The pool over HTTP: what it says, when it says it anew, and that it is there while weights load.
#include "router/ui/pool_routes.h"

#include <gmock/gmock.h>

#include "base/clock.h"
#include "router/api/status/loading_endpoints.h"
#include "router/metrics/pool_metrics.h"
#include "router/metrics/queue_metrics.h"
#include "router/ui/page_route.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

PoolPicture TwoWorkers() {
  PoolPicture pool;
  pool.place = PoolPicture::Place::kWorkers;
  pool.coordinator_speaks = true;
  pool.complete = false;
  pool.text = "2 of 9 experts have no holder";
  pool.coverage = {2, 3, 4, 0};
  pool.live_links = 1;
  pool.holdings_version = 5;
  pool.replicas = 1.5;
  pool.routers = 1;
  pool.moving_bytes = 1234;
  WorkerPicture& first = pool.workers.emplace_back();
  first.id = 0;
  first.name = "pid 7 on a";
  first.link = LinkPicture{.live = true, .path = "shm", .failures = 2, .seconds_per_unit = 0.5};
  first.member = MemberPicture{.state = "ready", .host = "a", .pid = 7, .held_experts = 7,
                               .wanted_experts = 9, .resident_bytes = 70, .load_share = 0.25};
  WorkerPicture& second = pool.workers.emplace_back();
  second.id = 3;  // known to the coordinator alone
  second.member = MemberPicture{.state = "loading"};
  pool.lost.push_back({.id = 2, .instance = 0xfedcba9876543210u, .host = "b", .pid = 8,
                       .reason = "lease", .ms_ago = 100});
  return pool;
}

class PoolRoutesTest : public HttpFixture {
 protected:
  void SetUp() override {
    HttpFixture::SetUp();
    server_->Use(with_pool_);
  }
  void TearDown() override { server_.reset(); }  // before its routes

  Parsed Pool() {
    const HttpAnswer answer = Get("/sheaf/v1/pool");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.headers.at("content-type"), "application/json");
    EXPECT_EQ(answer.headers.at("cache-control"), "no-store");
    return Json(answer);
  }

  ManualClock clock_;
  ApiContext context_{api_.engine, api_.codec, api_.model, api_.limits, api_.settings,
                      api_.metrics, api_.preparation, api_.wakes, clock_,
                      api_.context.random, api_.context.unix_seconds};
  PoolMetrics pool_metrics_{api_.registry};
  std::optional<PoolPicture> pool_ = TwoWorkers();
  std::optional<ExpertMap> map_;
  double progress_ = 1;
  std::vector<HttpRoute> routes_ =
      PoolRoutes({context_, api_.registry, [this] { return pool_; }, [this] { return map_; },
                  [this] { return progress_; }});
  HttpRouter with_pool_ = MakeHttpRouter(api_.context, api_.registry, routes_);
};

TEST_F(PoolRoutesTest, SaysWhatRouterLinksAndCoordinatorSay) {
  EngineLoad load;
  load.running = 3;
  load.queued = 4;
  load.used_blocks = 5;
  load.total_blocks = 10;
  api_.engine.SetLoad(load);
  api_.metrics.TokensTold(42, 1);
  api_.metrics.FirstToken(milliseconds(250));
  api_.metrics.FirstToken(milliseconds(750));
  pool_metrics_.ExpertTokens(WorkerId(0), 60);
  pool_metrics_.BytesExchanged(WorkerId(0), 100, 200);
  clock_.Advance(std::chrono::seconds(9));

  const Parsed json = Pool();
  EXPECT_EQ(json["version"], "9.8.7");
  EXPECT_EQ(json["model"], "glm-nano");
  EXPECT_EQ(json["state"], "ready");
  EXPECT_EQ(json["uptime_seconds"], 9);
  EXPECT_EQ(json["load"]["running"], 3);
  EXPECT_EQ(json["load"]["queued"], 4);
  EXPECT_EQ(json["load"]["kv_blocks_used"], 5);
  EXPECT_EQ(json["load"]["kv_blocks_total"], 10);
  EXPECT_EQ(json["figures"]["sheaf_generated_tokens_total"], 42);
  EXPECT_EQ(json["figures"]["sheaf_time_to_first_token_seconds"]["count"], 2);
  EXPECT_DOUBLE_EQ(json["figures"]["sheaf_time_to_first_token_seconds"]["sum"].get<double>(), 1.0);

  const Parsed& pool = json["pool"];
  EXPECT_EQ(pool["experts_in"], "workers");
  EXPECT_EQ(pool["complete"], false);
  EXPECT_EQ(pool["text"], "2 of 9 experts have no holder");
  EXPECT_EQ(pool["coverage"], Parsed({2, 3, 4, 0}));
  EXPECT_EQ(pool["experts_version"], 5);
  EXPECT_EQ(pool["coordinator"]["moving_bytes"], 1234);
  EXPECT_EQ(pool["coordinator"]["replicas"], 1.5);
  EXPECT_EQ(pool["coordinator"]["lost"][0]["instance"], "fedcba9876543210");
  ASSERT_EQ(pool["workers"].size(), 2u);
  EXPECT_EQ(pool["workers"][0]["pairs_total"], 60);
  EXPECT_EQ(pool["workers"][0]["sent_bytes_total"], 100);
  EXPECT_EQ(pool["workers"][0]["received_bytes_total"], 200);
  EXPECT_EQ(pool["workers"][0]["link"]["live"], true);
  EXPECT_EQ(pool["workers"][0]["link"]["failures"], 2);
  EXPECT_EQ(pool["workers"][0]["member"]["state"], "ready");
  EXPECT_EQ(pool["workers"][1]["id"], 3);
  EXPECT_TRUE(pool["workers"][1]["link"].is_null());
  EXPECT_EQ(pool["workers"][1]["pairs_total"], 0);
}

TEST_F(PoolRoutesTest, FiguresAreThoseOfTheDocument) {
  // What was renamed in the metrics would silently be missing here.
  QueueMetrics queue(api_.registry);
  api_.metrics.RequestEnded(RequestFace::kHttp, RequestOutcome::kStop, milliseconds(1));
  const Parsed figures = Pool()["figures"];
  for (const char* name :
       {"sheaf_requests_total", "sheaf_requests_refused_total", "sheaf_prompt_tokens_total",
        "sheaf_queued_tokens", "sheaf_steps_total", "sheaf_steps_given_up_total",
        "sheaf_preemptions_total", "sheaf_prefix_cache_queries_total",
        "sheaf_prefix_cache_hits_total", "sheaf_links_lost_total", "sheaf_redispatched_pairs_total",
        "sheaf_inter_token_latency_seconds", "sheaf_queue_seconds",
        "sheaf_request_duration_seconds", "sheaf_step_duration_seconds"}) {
    EXPECT_TRUE(figures.contains(name)) << name;
  }
}

TEST_F(PoolRoutesTest, ManyWhoLookCostNoMoreThanOne) {
  int64_t told = 0;
  const auto tokens = [&] {
    return Pool()["figures"]["sheaf_generated_tokens_total"].get<double>();
  };
  api_.metrics.TokensTold(1, 0);
  EXPECT_EQ(tokens(), ++told);
  api_.metrics.TokensTold(1, 0);
  clock_.Advance(milliseconds(499));
  EXPECT_EQ(tokens(), told) << "the same answer for half a second";
  clock_.Advance(milliseconds(1));
  EXPECT_EQ(tokens(), ++told);
}

TEST_F(PoolRoutesTest, StatesOfTheRouter) {
  const auto state = [&] {
    clock_.Advance(std::chrono::seconds(1));
    return Pool()["state"].get<std::string>();
  };
  EXPECT_EQ(state(), "ready");
  api_.engine.SetReady(false);
  EXPECT_EQ(state(), "not ready");
  api_.engine.SetLive(false);
  EXPECT_EQ(state(), "hangs");
  progress_ = 0.4217;
  EXPECT_EQ(state(), "loading");
  EXPECT_EQ(Pool()["progress"], 0.421);
}

TEST_F(PoolRoutesTest, ThePageAndThePoolAreThereWhileWeightsLoad) {
  progress_ = 0.5;
  pool_.reset();
  std::vector<HttpRoute> routes = routes_;
  routes.push_back(PageRoute(""));
  const HttpRouter loading = MakeLoadingRouter([] { return 0.5; }, api_.registry, routes);
  server_->Use(loading);
  EXPECT_TRUE(Pool()["pool"].is_null());
  const HttpAnswer page = Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
  EXPECT_EQ(page.body, EmbeddedPage());
  const HttpAnswer map = Get("/sheaf/v1/pool/experts");
  EXPECT_EQ(map.status, 503);
  EXPECT_EQ(map.headers.at("retry-after"), "1");
  EXPECT_EQ(Get("/ready").status, 503);
  server_.reset();  // before its routes
}

TEST_F(PoolRoutesTest, TheMapOfTheExperts) {
  map_.emplace();
  map_->version = 5;
  map_->layers = 1;
  map_->experts = 8;
  map_->holders.push_back({0, std::vector<bool>(8, true)});
  const HttpAnswer answer = Get("/sheaf/v1/pool/experts");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(Json(answer)["workers"][0]["held"], "/w==");
}

TEST_F(PoolRoutesTest, WithoutTheFlagThereIsNoPage) { EXPECT_EQ(Get("/").status, 404); }

TEST_F(PoolRoutesTest, OtherPagesMayNotLook) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("GET", "/sheaf/v1/pool", "", "Origin: https://evil.example\r\n"));
  EXPECT_EQ(client.Receive().status, 403);
}

}  // namespace
}  // namespace sheaf
