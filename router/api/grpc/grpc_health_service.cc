#include "router/api/grpc/grpc_health_service.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "network/write_turns.h"
#include "router/api/grpc/grpc_errors.h"
#include "router/api/grpc/grpc_messages.h"

namespace sheaf {
namespace {

namespace health = grpc::health::v1;
using Status = health::HealthCheckResponse::ServingStatus;

grpc::ByteBuffer Answer(Status status) {
  health::HealthCheckResponse response;
  response.set_status(status);
  return EncodeMessage(response);
}

// One Watch call: sends the newest status that its client does not have. Holds itself until OnDone.
class Watcher final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                      public std::enable_shared_from_this<Watcher> {
 public:
  static std::shared_ptr<Watcher> Create(std::string name) {
    std::shared_ptr<Watcher> watcher(new Watcher(std::move(name)));
    watcher->self_ = watcher;
    return watcher;
  }

  const std::string& name() const { return name_; }

  void Tell(Status status) {
    {
      absl::MutexLock lock(&mutex_);
      newest_ = status;
    }
    Advance();
  }

  // After what it was told last.
  void End(grpc::Status how) {
    {
      absl::MutexLock lock(&mutex_);
      end_ = std::move(how);
    }
    Advance();
  }

  bool closed() {
    absl::MutexLock lock(&mutex_);
    return turns_.finished();
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      turns_.Written();
      gone_ |= !ok;
    }
    Advance();
  }
  void OnCancel() override {
    {
      absl::MutexLock lock(&mutex_);
      gone_ = true;
    }
    Advance();
  }
  void OnDone() override { std::shared_ptr<Watcher> last = std::move(self_); }

 private:
  explicit Watcher(std::string name) : name_(std::move(name)) {}

  void Advance() {
    WriteTurns::Turn turn = WriteTurns::Turn::kNone;
    grpc::Status status = grpc::Status::CANCELLED;
    {
      absl::MutexLock lock(&mutex_);
      turn = turns_.Next(!gone_ && newest_ != sent_, gone_ || end_);
      if (turn == WriteTurns::Turn::kWrite) {
        sent_ = newest_;
        current_ = Answer(*newest_);
      }
      if (!gone_ && end_) status = *end_;
    }
    if (turn == WriteTurns::Turn::kWrite) StartWrite(&current_);
    if (turn == WriteTurns::Turn::kFinish) Finish(status);
  }

  const std::string name_;
  std::shared_ptr<Watcher> self_;
  grpc::ByteBuffer current_;  // the message of the write under way

  absl::Mutex mutex_;
  std::optional<Status> newest_ ABSL_GUARDED_BY(mutex_);
  std::optional<Status> sent_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
  WriteTurns turns_ ABSL_GUARDED_BY(mutex_);
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
};

using RawHealth = health::Health::WithRawCallbackMethod_Check<
    health::Health::WithRawCallbackMethod_Watch<health::Health::Service>>;

class HealthService final : public GrpcHealthService, public RawHealth {
 public:
  HealthService(const GenerationEngine& engine, std::chrono::milliseconds look_again)
      : engine_(engine),
        look_again_(absl::FromChrono(look_again)),
        thread_([this] { TellWatchers(); }) {}
  ~HealthService() override { Stop(); }

  grpc::Service* service() override { return this; }
  void SetServices(std::vector<std::string> names) override { names_ = std::move(names); }

  void Changed() override {
    absl::MutexLock lock(&mutex_);
    news_ = true;
    changed_.SignalAll();
  }

  void Stop() override {
    {
      absl::MutexLock lock(&mutex_);
      if (std::exchange(stopping_, true)) return;
    }
    changed_.SignalAll();
    thread_.join();
  }

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* server,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override {
    grpc::ServerUnaryReactor* reactor = server->DefaultReactor();
    health::HealthCheckRequest message;
    if (const auto error = DecodeMessage(*request, message)) {
      reactor->Finish(GrpcStatusOf(*error, server));
      return reactor;
    }
    const Status status = StatusOf(message.service(), stopping());
    if (status == health::HealthCheckResponse::SERVICE_UNKNOWN) {
      reactor->Finish({grpc::StatusCode::NOT_FOUND, "unknown service"});
      return reactor;
    }
    *response = Answer(status);
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(grpc::CallbackServerContext* server,
                                                    const grpc::ByteBuffer* request) override {
    health::HealthCheckRequest message;
    const auto error = DecodeMessage(*request, message);
    auto watcher = Watcher::Create(message.service());
    if (error) {
      watcher->End(GrpcStatusOf(*error, server));
      return watcher.get();
    }
    bool late = false;
    {
      absl::MutexLock lock(&mutex_);
      late = stopping_;
      if (!late) {
        watchers_.push_back(watcher);
        news_ = true;
      }
    }
    changed_.SignalAll();
    if (late) EndAtShutdown(*watcher);
    return watcher.get();
  }

 private:
  bool stopping() {
    absl::MutexLock lock(&mutex_);
    return stopping_;
  }

  Status StatusOf(const std::string& name, bool stopping) const {
    const bool known =
        name.empty() || std::find(names_.begin(), names_.end(), name) != names_.end();
    if (!known) return health::HealthCheckResponse::SERVICE_UNKNOWN;
    const bool serving = !stopping && (name.empty() ? engine_.live() : engine_.ready());
    return serving ? health::HealthCheckResponse::SERVING
                   : health::HealthCheckResponse::NOT_SERVING;
  }

  void EndAtShutdown(Watcher& watcher) const {
    watcher.Tell(StatusOf(watcher.name(), /*stopping=*/true));
    watcher.End({grpc::StatusCode::UNAVAILABLE, "the server shuts down"});
  }

  // Runs on thread_, the only one that tells what the engine says, so that nothing arrives late.
  void TellWatchers() {
    for (bool last = false; !last;) {
      std::vector<std::shared_ptr<Watcher>> watchers;
      {
        absl::MutexLock lock(&mutex_);
        while (!stopping_ && !news_) {
          if (watchers_.empty()) {
            changed_.Wait(&mutex_);
          } else if (changed_.WaitWithTimeout(&mutex_, look_again_)) {
            break;  // time to ask the engine
          }
        }
        news_ = false;
        last = stopping_;
        std::erase_if(watchers_, [](const auto& watcher) { return watcher->closed(); });
        watchers = watchers_;
      }
      for (const auto& watcher : watchers) {
        if (last) {
          EndAtShutdown(*watcher);
        } else {
          watcher->Tell(StatusOf(watcher->name(), /*stopping=*/false));
        }
      }
    }
  }

  const GenerationEngine& engine_;
  const absl::Duration look_again_;
  std::vector<std::string> names_;

  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::vector<std::shared_ptr<Watcher>> watchers_ ABSL_GUARDED_BY(mutex_);
  bool news_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

std::unique_ptr<GrpcHealthService> GrpcHealthService::Create(
    const GenerationEngine& engine, std::chrono::milliseconds look_again) {
  return std::make_unique<HealthService>(engine, look_again);
}

}  // namespace sheaf
