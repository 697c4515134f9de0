#include "exchange/pool/link_pool.h"

#include <pthread.h>

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr int kConnectThreads = 8;
constexpr size_t kMaxConnectJobs = 1 << 16;  // one a worker
constexpr size_t kOrphansShown = 16;
constexpr absl::Duration kIdleTurn = absl::Milliseconds(20);
constexpr absl::Duration kGreetingTurn = absl::Milliseconds(1);
constexpr std::chrono::milliseconds kPublishAtMost{5};
constexpr std::chrono::milliseconds kPublishAtLeast{200};

PoolLinksOptions LinksOptions(const LinkPoolOptions& options) {
  PoolLinksOptions result;
  result.model = options.model;
  result.router = options.router;
  result.rows_of_8_bits = options.rows_of_8_bits;
  result.times = options.times;
  result.silence = options.silence;
  result.life.first_back_off = options.first_back_off;
  result.life.max_back_off = options.max_back_off;
  result.life.greeting_timeout = options.connect_timeout;
  result.seed = options.seed;
  if (result.seed == 0) {
    std::random_device device;
    result.seed = (uint64_t{device()} << 32) | device();
  }
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LinkPool>> LinkPool::Create(const LinkPoolOptions& options,
                                                           std::unique_ptr<LinkConnector> connector,
                                                           const Clock& clock,
                                                           LinkPoolObserver* observer) {
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<Bell> bell, Bell::Create());
  return std::unique_ptr<LinkPool>(
      new LinkPool(options, std::move(connector), clock, observer, std::move(bell)));
}

LinkPool::LinkPool(const LinkPoolOptions& options, std::unique_ptr<LinkConnector> connector,
                   const Clock& clock, LinkPoolObserver* observer, std::unique_ptr<Bell> bell)
    : options_(options),
      connector_(std::move(connector)),
      clock_(clock),
      observer_(observer),
      bell_(std::move(bell)),
      links_(LinksOptions(options), observer),
      jobs_(kMaxConnectJobs) {
  Publish(clock_.Now(), true);
  threads_.emplace_back([this] { LinksLoop(); });
  pthread_setname_np(threads_.back().native_handle(), "sheaf-links");
  for (int i = 0; i < kConnectThreads; ++i) {
    threads_.emplace_back([this] { ConnectLoop(); });
    pthread_setname_np(threads_.back().native_handle(), "sheaf-connect");
  }
}

LinkPool::~LinkPool() {
  {
    absl::MutexLock lock(&inbox_mutex_);
    stopping_ = true;
  }
  jobs_.Close();
  for (std::thread& thread : threads_) thread.join();
}

void LinkPool::SetWorkers(std::vector<WorkerEndpoint> workers) {
  {
    absl::MutexLock lock(&inbox_mutex_);
    new_workers_ = std::move(workers);
    inbox_rung_ = true;
    inbox_full_.store(true, std::memory_order_release);
  }
  bell_->Ring();
}

void LinkPool::ConnectLoop() {
  for (;;) {
    std::optional<PoolLinks::ConnectJob> job =
        jobs_.PopUntil(std::chrono::steady_clock::now() + std::chrono::hours(1));
    if (!job.has_value()) {
      if (jobs_.closed()) return;
      continue;
    }
    {
      absl::MutexLock lock(&inbox_mutex_);
      if (stopping_) return;
    }
    ConnectResult result{job->worker, job->request.link,
                         connector_->Connect(job->addresses, job->request, *bell_,
                                             clock_.Now() + options_.connect_timeout)};
    {
      absl::MutexLock lock(&inbox_mutex_);
      connected_.push_back(std::move(result));
      inbox_rung_ = true;
      inbox_full_.store(true, std::memory_order_release);
    }
    bell_->Ring();  // for a step that waits
  }
}

void LinkPool::LinksLoop() {
  absl::Duration pause = kIdleTurn;
  for (;;) {
    {
      absl::MutexLock lock(&inbox_mutex_);
      const auto wanted = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(inbox_mutex_) {
        return stopping_ || inbox_rung_;
      };
      inbox_mutex_.AwaitWithTimeout(absl::Condition(&wanted), pause);
      inbox_rung_ = false;
      if (stopping_) return;
    }
    // A step has them: it takes its turns itself.
    if (!links_mutex_.TryLock()) continue;
    Turn(clock_.Now(), true);
    pause = links_.Greeting() ? kGreetingTurn : kIdleTurn;
    links_mutex_.Unlock();
  }
}

void LinkPool::Turn(TimePoint now, bool idle) {
  TakeInbox(now);
  if (idle) {
    links_.Idle(now);
  } else {
    links_.Judge(now);
  }
  PoolLinks::ConnectJob job;
  while (links_.NextConnect(now, job)) {
    if (jobs_.TryPush(job)) continue;
    links_.Connected(job.worker, job.request.link,
                     absl::ResourceExhaustedError("too many connections are being made"), now);
  }
  Publish(now, idle && now - published_at_ >= kPublishAtLeast);
}

void LinkPool::TakeInbox(TimePoint now) {
  if (!inbox_full_.load(std::memory_order_acquire)) return;
  std::optional<std::vector<WorkerEndpoint>> workers;
  std::vector<ConnectResult> connected;
  {
    absl::MutexLock lock(&inbox_mutex_);
    inbox_full_.store(false, std::memory_order_relaxed);
    workers.swap(new_workers_);
    connected.swap(connected_);
  }
  for (ConnectResult& result : connected)
    links_.Connected(result.worker, result.link, std::move(result.result), now);
  if (workers.has_value()) links_.SetWorkers(*std::move(workers), now);
}

void LinkPool::Publish(TimePoint now, bool always) {
  const ExpertTable& table = links_.table();
  if (!always) {
    if (links_.changes() == published_changes_) return;
    if (now - published_at_ < kPublishAtMost) return;
  }
  published_changes_ = links_.changes();
  published_at_ = now;
  LinkPoolSnapshot view;
  view.workers = links_.Status();
  view.coverage = table.coverage();
  view.live_links = links_.live();
  view.complete = table.complete();
  view.orphans = table.Orphans(kOrphansShown);
  if (announced_ == nullptr || announced_version_ != table.version()) {
    announced_ = std::make_shared<const ExpertTable::Announced>(table.announced());
    announced_version_ = table.version();
  }
  view.holdings = announced_;
  view.holdings_version = announced_version_;
  if (observer_ != nullptr &&
      (view.coverage != told_coverage_ || view.live_links != told_live_)) {
    told_coverage_ = view.coverage;
    told_live_ = view.live_links;
    observer_->OnCoverage(view.coverage, view.live_links);
  }
  absl::MutexLock lock(&view_mutex_);
  view_ = std::move(view);
}

LinkPoolSnapshot LinkPool::snapshot() const {
  absl::MutexLock lock(&view_mutex_);
  return view_;
}

absl::Status LinkPool::Ready() const {
  const LinkPoolSnapshot view = snapshot();
  if (view.complete) return absl::OkStatus();
  std::string text;
  if (view.workers.empty()) {
    text = "no expert workers are known";
  } else {
    text = absl::StrFormat("%d of %d expert workers are linked", view.live_links,
                           view.workers.size());
    if (!view.orphans.empty()) {
      absl::StrAppend(&text, "; nobody holds layer ", view.orphans.front().layer.value(),
                      ", expert ", view.orphans.front().expert.value());
      if (view.coverage[0] > 1) absl::StrAppend(&text, " and ", view.coverage[0] - 1, " more");
    }
    int named = 0;
    for (const WorkerLinkStatus& worker : view.workers) {
      if (worker.live || worker.reason.empty() || ++named > 4) continue;
      absl::StrAppend(&text, "; worker ", worker.worker.value(), ": ", worker.reason);
    }
  }
  return absl::UnavailableError(text);
}

LinkPool::Session::Session(LinkPool& pool) ABSL_NO_THREAD_SAFETY_ANALYSIS : pool_(pool) {
  pool_.links_mutex_.Lock();
}

LinkPool::Session::~Session() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  pool_.links_.Release();
  pool_.links_mutex_.Unlock();
}

}  // namespace sheaf
