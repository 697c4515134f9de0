#include "cli/router/pool_observer.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <optional>
#include <utility>

#include "base/one_line.h"

namespace sheaf {
namespace {

// A worker that answers wrongly does so often; the coordinator hears of each expert once a report.
constexpr size_t kMaxNews = 1024;

PoolMetrics::LinkEnd CauseOf(const absl::Status& why) {
  switch (why.code()) {
    case absl::StatusCode::kUnavailable:
      return PoolMetrics::LinkEnd::kClosed;
    case absl::StatusCode::kDeadlineExceeded:
      return PoolMetrics::LinkEnd::kSilent;
    case absl::StatusCode::kInvalidArgument:
      return PoolMetrics::LinkEnd::kNonsense;
    case absl::StatusCode::kUnauthenticated:
      return PoolMetrics::LinkEnd::kForged;
    case absl::StatusCode::kFailedPrecondition:
      return PoolMetrics::LinkEnd::kRefused;
    default:
      return PoolMetrics::LinkEnd::kOther;
  }
}

std::string Text(const absl::Status& why) { return OneLine(std::string(why.message())); }

}  // namespace

PoolObserver::News PoolObserver::TakeNews() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(news_, {});
}

void PoolObserver::OnLinkUp(WorkerId worker, const std::string& path) {
  spdlog::info("worker {} is linked ({})", worker.value(), path);
}

void PoolObserver::OnLinkDown(WorkerId worker, const absl::Status& why) {
  metrics_.LinkLost(CauseOf(why));
  // Who sits between the two can cause as many forged frames as he likes.
  std::optional<std::string> rest = "";
  if (absl::IsUnauthenticated(why)) rest = forged_frames_.Say(std::chrono::steady_clock::now());
  if (rest.has_value())
    spdlog::warn("worker {}: link lost: {}{}", worker.value(), Text(why), *rest);
  on_urgent_();
}

void PoolObserver::OnConnectFailed(WorkerId worker, const absl::Status& why) {
  if (absl::IsFailedPrecondition(why)) {
    spdlog::error("worker {} cannot be linked: {}", worker.value(), Text(why));
  } else if (absl::IsUnauthenticated(why)) {
    spdlog::warn("worker {} is not linked: {}", worker.value(), Text(why));
  } else {
    spdlog::debug("worker {} is not reached: {}", worker.value(), Text(why));
  }
}

void PoolObserver::OnCoverage(const ExpertTable::Coverage& coverage, int live_links) {
  metrics_.LiveLinksAre(live_links);
  metrics_.CoverageIs(coverage);
  const bool complete = coverage[0] == 0;
  bool changed = false;
  {
    absl::MutexLock lock(&mutex_);
    changed = told_complete_ != complete;
    told_complete_ = complete;
    if (complete) given_up_because_.clear();
  }
  if (!changed) return;
  if (complete) {
    spdlog::info("every expert has a live holder ({} workers are linked)", live_links);
  } else {
    spdlog::warn("{} experts have no live holder ({} workers are linked)", coverage[0], live_links);
    on_urgent_();
  }
}

void PoolObserver::OnLateAnswer(WorkerId) { metrics_.LateAnswers(1); }

void PoolObserver::OnWrongAnswer(WorkerId worker, LayerId layer, ExpertId expert) {
  spdlog::error("worker {} gave a wrong answer for expert {} of layer {}", worker.value(),
                expert.value(), layer.value());
  {
    absl::MutexLock lock(&mutex_);
    if (news_.wrong_answers.size() < kMaxNews) {
      news_.wrong_answers.push_back({worker, {layer, expert}});
    }
  }
  on_urgent_();
}

void PoolObserver::OnUndecided(WorkerId first, WorkerId second, LayerId layer, ExpertId expert) {
  spdlog::error("workers {} and {} differ in expert {} of layer {}; nobody can tell who is right",
                first.value(), second.value(), expert.value(), layer.value());
}

void PoolObserver::OnGivenUp(LayerId layer, const absl::Status& why,
                             std::span<const ExpertId> orphans) {
  bool first = false;
  {
    absl::MutexLock lock(&mutex_);
    for (const ExpertId expert : orphans) {
      if (news_.orphans.size() < kMaxNews) news_.orphans.insert({layer, expert});
    }
    // The layer is named in it, and differs from try to try.
    first = given_up_because_.empty();
    given_up_because_ = Text(why);
  }
  if (first) spdlog::warn("a step is given up, to be computed again: {}", Text(why));
  on_urgent_();
}

}  // namespace sheaf
