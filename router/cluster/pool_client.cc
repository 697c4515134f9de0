#include "router/cluster/pool_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/one_line.h"
#include "router/cluster/router_hello.h"

namespace sheaf {
namespace {

// A condition on time alone is looked at again after this.
constexpr Duration kLongestWait = std::chrono::milliseconds(100);

}  // namespace

std::vector<WorkerEndpoint> EndpointsOf(const v1::PoolView& view) {
  std::vector<WorkerEndpoint> endpoints;
  for (const v1::PoolMember& worker : view.workers()) {
    WorkerEndpoint endpoint;
    if (worker.link_key().size() != endpoint.key.bytes.size() || worker.addresses_size() == 0 ||
        worker.instance() == 0 || worker.worker_id() < 0) {
      continue;
    }
    endpoint.worker = WorkerId(worker.worker_id());
    endpoint.instance = InstanceId(worker.instance());
    endpoint.addresses.assign(worker.addresses().begin(), worker.addresses().end());
    std::copy(worker.link_key().begin(), worker.link_key().end(), endpoint.key.bytes.begin());
    endpoint.name = absl::StrFormat("pid %d on %s", worker.pid(), OneLine(worker.host()));
    endpoints.push_back(std::move(endpoint));
  }
  return endpoints;
}

PoolClient::PoolClient(PoolClientOptions options, const Clock& clock, OpenPoolStream open,
                       OnView on_view)
    : options_(std::move(options)),
      clock_(clock),
      open_(std::move(open)),
      on_view_(std::move(on_view)),
      pending_(options_.report_every) {
  {
    absl::MutexLock lock(&mutex_);
    snapshot_.text = "no word from the coordinator yet";
  }
  thread_ = std::thread([this] { Run(); });
}

PoolClient::~PoolClient() { Stop(); }

void PoolClient::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

bool PoolClient::stopping() const {
  absl::MutexLock lock(&mutex_);
  return stopping_;
}

void PoolClient::Report(const v1::RouterReport& report) {
  absl::MutexLock lock(&mutex_);
  pending_.Add(report, clock_.Now());
}

PoolClient::Snapshot PoolClient::snapshot() const {
  absl::MutexLock lock(&mutex_);
  return snapshot_;
}

void PoolClient::Run() {
  Duration back_off = options_.first_back_off;
  while (!stopping()) {
    if (RunSession()) back_off = options_.first_back_off;
    const auto stop = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; };
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&stop), absl::FromChrono(back_off));
    back_off = std::min(back_off * 2, options_.max_back_off);
  }
}

bool PoolClient::RunSession() {
  {
    absl::MutexLock lock(&mutex_);
    ended_ = false;
    arrived_.clear();
    end_status_ = absl::OkStatus();
  }
  const std::unique_ptr<PoolStream> stream = open_({[this](v1::ToRouter message) {
                                                      absl::MutexLock lock(&mutex_);
                                                      // Each view is whole: only the newest counts.
                                                      arrived_.clear();
                                                      arrived_.push_back(std::move(message));
                                                    },
                                                    [this](const absl::Status& status) {
                                                      absl::MutexLock lock(&mutex_);
                                                      ended_ = true;
                                                      end_status_ = status;
                                                    }});
  v1::FromRouter hello;
  *hello.mutable_hello() = MakeRouterHello({options_.model, options_.instance, options_.host,
                                            options_.pid, options_.version, options_.token});
  stream->Send(hello);

  bool taken = false;
  for (;;) {
    std::vector<v1::ToRouter> arrived;
    std::optional<v1::RouterReport> report;
    bool ended = false;
    absl::Status why;
    {
      absl::MutexLock lock(&mutex_);
      const auto something = [this, taken]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || ended_ || !arrived_.empty() ||
               (taken && pending_.due().has_value() && *pending_.due() <= clock_.Now());
      };
      Duration wait = kLongestWait;
      if (taken && pending_.due().has_value()) {
        wait = std::clamp(*pending_.due() - clock_.Now(), Duration(0), kLongestWait);
      }
      mutex_.AwaitWithTimeout(absl::Condition(&something), absl::FromChrono(wait));
      if (stopping_) return taken;
      arrived.swap(arrived_);
      ended = ended_;
      why = end_status_;
      const TimePoint now = clock_.Now();
      // Before the first view the hello may be refused, and a report be lost with it.
      if (!ended && taken && pending_.due().has_value() && *pending_.due() <= now) {
        report = pending_.Take(now);
      }
    }
    for (const v1::ToRouter& message : arrived) {
      if (!message.has_view()) continue;
      if (!taken) spdlog::info("pool: the coordinator is there");
      taken = true;
      last_reason_.clear();
      TakeView(message.view());
    }
    if (report.has_value()) {
      v1::FromRouter message;
      *message.mutable_report() = *std::move(report);
      stream->Send(message);
    }
    if (!ended) continue;
    const std::string reason =
        OneLine(why.ok() ? "it ended the session" : std::string(why.message()));
    if (reason != last_reason_) {
      spdlog::warn("pool: no coordinator: {}; trying again, going on with who is known", reason);
      last_reason_ = reason;
    }
    absl::MutexLock lock(&mutex_);
    snapshot_.connected = false;
    snapshot_.text = "no coordinator: " + reason;
    return taken;
  }
}

void PoolClient::TakeView(const v1::PoolView& view) {
  std::vector<WorkerEndpoint> endpoints = EndpointsOf(view);
  {
    absl::MutexLock lock(&mutex_);
    snapshot_.connected = true;
    snapshot_.text = OneLine(view.text());
    snapshot_.workers = static_cast<int>(endpoints.size());
  }
  on_view_(std::move(endpoints));
}

}  // namespace sheaf
