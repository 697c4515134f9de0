#include "router/ui/pool_routes.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "router/api/http/http_errors.h"
#include "router/ui/pool_json.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

// The same answer for a while.
class RecentAnswer {
 public:
  RecentAnswer(const Clock& clock, Duration fresh, std::function<HttpResponse()> make)
      : clock_(clock), fresh_(fresh), make_(std::move(make)) {}

  HttpResponse Get() {
    absl::MutexLock lock(&mutex_);
    const TimePoint now = clock_.Now();
    if (!answer_ || now - made_ >= fresh_) {
      answer_ = make_();
      answer_->headers.emplace_back("Cache-Control", "no-store");
      made_ = now;
    }
    return *answer_;
  }

 private:
  const Clock& clock_;
  const Duration fresh_;
  const std::function<HttpResponse()> make_;
  absl::Mutex mutex_;
  std::optional<HttpResponse> answer_ ABSL_GUARDED_BY(mutex_);
  TimePoint made_ ABSL_GUARDED_BY(mutex_);
};

RouterPicture PictureOf(const PoolRoutesParts& parts, TimePoint started) {
  const ApiContext& context = parts.context;
  RouterPicture router;
  router.version = context.model.server_version;
  router.model = context.model.names.empty() ? "" : context.model.names.front();
  router.uptime_seconds =
      std::chrono::duration<double>(context.clock.Now() - started).count();
  router.max_model_len = context.engine.max_model_len();
  router.progress = parts.progress();
  router.load = context.engine.load();
  using State = RouterPicture::State;
  if (router.progress < 1) {
    router.state = State::kLoading;
  } else if (!context.engine.live()) {
    router.state = State::kHangs;
  } else {
    router.state = context.engine.ready() ? State::kReady : State::kNotReady;
  }
  router.pool = parts.pool();
  return router;
}

}  // namespace

std::vector<HttpRoute> PoolRoutes(const PoolRoutesParts& parts) {
  const auto route = [&](const char* path, Duration fresh, std::function<HttpResponse()> make) {
    const auto recent = std::make_shared<RecentAnswer>(parts.context.clock, fresh, std::move(make));
    return HttpRoute{"GET", path, /*instant=*/true,
                     [recent](const HttpRequest&) { return HttpReply(recent->Get()); }};
  };
  const TimePoint started = parts.context.clock.Now();
  return {route("/sheaf/v1/pool", milliseconds(500),
                [parts, started] {
                  return HttpResponse{200,
                                      "application/json",
                                      PoolJson(PictureOf(parts, started), parts.metrics.Collect()),
                                      {}};
                }),
          route("/sheaf/v1/pool/experts", milliseconds(1000), [parts] {
            const std::optional<ExpertMap> map = parts.experts();
            if (!map) {
              HttpResponse response = ErrorResponse(503, "The experts are not loaded yet.");
              response.headers.emplace_back("Retry-After", "1");
              return response;
            }
            return HttpResponse{200, "application/json", map->ToJson(), {}};
          })};
}

}  // namespace sheaf
