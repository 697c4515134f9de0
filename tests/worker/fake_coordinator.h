#pragma once
// A coordinator for tests: real gRPC on loopback; does what the test says, and remembers what
// workers say.
//
// Threads    any.

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "exchange/wire/holdings.h"
#include "sheaf/v1/pool.grpc.pb.h"
#include "tests/worker/test_experts.h"

namespace sheaf {

class FakeCoordinator final : public v1::Coordinator::Service {
 public:
  using Stream = grpc::ServerReaderWriter<v1::ToWorker, v1::FromWorker>;

  // Not OK: every hello is refused with it.
  explicit FakeCoordinator(int port = 0, grpc::Status refusal = grpc::Status::OK)
      : refusal_(refusal) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
  }
  ~FakeCoordinator() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  int port() const { return port_; }

  grpc::Status WorkerSession(grpc::ServerContext*, Stream* stream) override {
    v1::FromWorker message;
    if (!stream->Read(&message) || !message.has_hello())
      return {grpc::StatusCode::INVALID_ARGUMENT, "not a hello"};
    if (!refusal_.ok()) {
      absl::MutexLock lock(&mutex_);
      hellos_.push_back(message.hello());
      return refusal_;
    }
    v1::ToWorker welcome;
    welcome.mutable_welcome()->set_worker_id(3);
    welcome.mutable_welcome()->set_lease_ms(300);
    stream->Write(welcome);
    {
      absl::MutexLock lock(&mutex_);
      hellos_.push_back(message.hello());
      stream_ = stream;
      ++live_;
    }
    while (stream->Read(&message)) {
      absl::MutexLock lock(&mutex_);
      if (message.has_beat()) {
        v1::ToWorker seen;
        seen.mutable_beat_seen()->set_sequence(message.beat().sequence());
        stream->Write(seen);
      }
      said_.push_back(message);
    }
    absl::MutexLock lock(&mutex_);
    if (stream_ == stream) stream_ = nullptr;
    --live_;
    return end_;
  }

  void Say(const v1::ToWorker& message) {
    absl::MutexLock lock(&mutex_);
    ASSERT_NE(stream_, nullptr);
    stream_->Write(message);
  }
  void Hold(uint64_t number, const std::vector<LayerExpert>& pairs) {
    v1::ToWorker message;
    message.mutable_hold()->set_number(number);
    for (const LayerExpert& pair : pairs) {
      v1::ExpertRange& range = *message.mutable_hold()->add_experts();
      range.set_layer(pair.layer.value());
      range.set_begin(pair.expert.value());
      range.set_end(pair.expert.value() + 1);
    }
    Say(message);
  }

  bool WaitForHellos(size_t count) {
    return WaitFor([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return hellos_.size() >= count; });
  }
  v1::WorkerHello hello(size_t at) {
    absl::MutexLock lock(&mutex_);
    return hellos_.at(at);
  }
  // The first message, from now back to the beginning, that fits.
  std::optional<v1::FromWorker> WaitForMessage(
      const std::function<bool(const v1::FromWorker&)>& fits) {
    std::optional<v1::FromWorker> found;
    WaitFor([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      for (const v1::FromWorker& message : said_) {
        if (!fits(message)) continue;
        found = message;
        return true;
      }
      return false;
    });
    return found;
  }
  bool WaitForHoldings(const std::vector<LayerExpert>& pairs) {
    return WaitForMessage([&](const v1::FromWorker& message) {
             return message.has_holdings() && Decode(message.holdings().holdings()) == pairs;
           })
        .has_value();
  }
  static std::vector<LayerExpert> Decode(const std::string& bytes) {
    const auto holdings =
        Holdings::Decode({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                         kTestLayers, kTestExperts);
    return holdings.ok() ? holdings->List() : Pairs(-1, 0, 1);
  }
  bool WaitForNobody() {
    return WaitFor([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return live_ == 0; });
  }

 private:
  template <typename Predicate>
  bool WaitFor(const Predicate& wanted) {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&wanted), kTestPatience);
  }

  const grpc::Status refusal_;
  int port_ = 0;
  absl::Mutex mutex_;
  std::vector<v1::WorkerHello> hellos_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::FromWorker> said_ ABSL_GUARDED_BY(mutex_);
  Stream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int live_ ABSL_GUARDED_BY(mutex_) = 0;
  grpc::Status end_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sheaf
