// The coordinator behind real gRPC on loopback, with workers by script and a router's real client.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "coordinator/coordinator.h"
#include "coordinator/coordinator_metrics.h"
#include "coordinator/pool_server.h"
#include "router/cluster/in_process_pool.h"
#include "router/cluster/pool_client.h"
#include "router/cluster/remote_pool.h"
#include "tests/coordinator/scripted_pool.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr std::chrono::seconds kPatience{20};

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// A worker's stream, read and written by the test's thread.
class Stream {
 public:
  Stream(const std::string& address, const v1::FromWorker& hello)
      : stub_(v1::Coordinator::NewStub(ChannelTo(address))) {
    context_.set_deadline(std::chrono::system_clock::now() + kPatience);
    stream_ = stub_->WorkerSession(&context_);
    stream_->Write(hello);
  }
  ~Stream() {
    if (!finished_) Finish();
  }
  bool Next(v1::ToWorker& message) { return stream_->Read(&message); }
  void Say(const v1::FromWorker& message) { stream_->Write(message); }
  // Reads on until `wanted` says so.
  template <typename F>
  bool Until(F wanted) {
    v1::ToWorker message;
    while (Next(message)) {
      if (wanted(message)) return true;
    }
    return false;
  }
  void Cancel() { context_.TryCancel(); }
  grpc::Status Finish() {
    finished_ = true;
    stream_->WritesDone();
    v1::ToWorker message;
    while (stream_->Read(&message)) {
    }
    return stream_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::Coordinator::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::FromWorker, v1::ToWorker>> stream_;
  bool finished_ = false;
};

// What a router's client was given.
class Views {
 public:
  PoolClient::OnView OnView() {
    return [this](std::vector<WorkerEndpoint> view) {
      std::lock_guard lock(mutex_);
      last_ = std::move(view);
      changed_.notify_all();
    };
  }
  bool WaitFor(size_t workers) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return last_.size() == workers; });
  }
  std::vector<WorkerEndpoint> last() {
    std::lock_guard lock(mutex_);
    return last_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<WorkerEndpoint> last_;
};

struct Running {
  explicit Running(int workers, std::string token = "", int port = 0) {
    CoordinatorOptions options;
    options.pool = ScriptedPool::Options(workers);
    options.pool.token = std::move(token);
    options.pool.lease = std::chrono::seconds(30);  // the scripts do not beat
    options.tick = std::chrono::milliseconds(5);
    coordinator = std::make_unique<Coordinator>(options, clock, nullptr, &metrics);
    server = *PoolServer::Start({"127.0.0.1", port}, *coordinator);
  }
  ~Running() { server->Stop(); }

  SteadyClock clock;
  prometheus::Registry registry;
  CoordinatorMetrics metrics{registry};
  std::unique_ptr<Coordinator> coordinator;
  std::unique_ptr<PoolServer> server;
};

PoolClientOptions ClientOptions(uint64_t instance = 50) {
  PoolClientOptions options;
  options.model = SmallModel();
  options.instance = InstanceId(instance);
  options.host = "r";
  options.report_every = std::chrono::milliseconds(20);
  options.first_back_off = std::chrono::milliseconds(10);
  options.max_back_off = std::chrono::milliseconds(50);
  return options;
}

TEST(CoordinatorService, AWorkerIsWelcomedToldWhatToHoldAndShown) {
  Running running(1);
  Stream worker(running.server->address(), HelloOf(7));
  v1::ToWorker message;
  ASSERT_TRUE(worker.Next(message));
  ASSERT_TRUE(message.has_welcome());
  EXPECT_EQ(message.welcome().worker_id(), 0);
  EXPECT_EQ(message.welcome().lease_ms(), 30000);
  ASSERT_TRUE(worker.Until([](const v1::ToWorker& m) { return m.has_hold(); }));

  Views views;
  PoolClient client(ClientOptions(), running.clock, RemotePool(running.server->address()),
                    views.OnView());
  ASSERT_TRUE(views.WaitFor(1));
  const WorkerEndpoint endpoint = views.last().front();
  EXPECT_EQ(endpoint.worker, WorkerId(0));
  EXPECT_EQ(endpoint.instance, InstanceId(7));
  EXPECT_EQ(endpoint.addresses, std::vector<std::string>{"tcp:10.0.0.2:7001"});
  LinkSecret secret;
  secret.fill('s');
  EXPECT_EQ(endpoint.key, LinkKeyFor(secret, InstanceId(7), InstanceId(50)));
  EXPECT_EQ(endpoint.name, "pid 107 on a");
  EXPECT_TRUE(client.snapshot().connected);

  worker.Cancel();
  EXPECT_TRUE(views.WaitFor(0));
}

TEST(CoordinatorService, TokensModelsAndFieldsAreChecked) {
  Running running(1, "secret");
  Stream none(running.server->address(), HelloOf(1));
  EXPECT_EQ(none.Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  v1::FromWorker hello = HelloOf(1);
  hello.mutable_hello()->set_token("secret");
  hello.mutable_hello()->mutable_model()->set_digest(3);
  Stream foreign(running.server->address(), hello);
  const grpc::Status status = foreign.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("wanted \"small\""));
  hello = HelloOf(1);
  hello.mutable_hello()->set_token("secret");
  hello.mutable_hello()->set_host("a\nb");
  Stream forged(running.server->address(), hello);
  EXPECT_EQ(forged.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::FromWorker beat;
  beat.mutable_beat()->set_sequence(1);
  Stream rude(running.server->address(), beat);
  EXPECT_EQ(rude.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  // A router too, and it says why for as long as it is so.
  Views views;
  PoolClient client(ClientOptions(), running.clock, RemotePool(running.server->address()),
                    views.OnView());
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (client.snapshot().text.find("token") == std::string::npos &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_THAT(client.snapshot().text, HasSubstr("the pool wants a token"));
  EXPECT_FALSE(client.snapshot().connected);
}

TEST(CoordinatorService, OperatorsNeedTheTokenAndGetAnswers) {
  Running running(1, "secret");
  v1::FromWorker hello = HelloOf(1);
  hello.mutable_hello()->set_token("secret");
  Stream worker(running.server->address(), hello);
  ASSERT_TRUE(worker.Until([](const v1::ToWorker& m) { return m.has_hold(); }));
  const auto stub = v1::Pool::NewStub(ChannelTo(running.server->address()));
  const auto ask = [&](const char* token, auto&& call) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    if (token != nullptr) context.AddMetadata("authorization", token);
    return call(context).error_code();
  };
  v1::PoolStatus status;
  const auto get = [&](grpc::ClientContext& context) {
    return stub->GetStatus(&context, {}, &status);
  };
  EXPECT_EQ(ask(nullptr, get), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ask("Bearer secre", get), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ask("secret", get), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ask("Bearer secret", get), grpc::StatusCode::OK);
  ASSERT_EQ(status.workers_size(), 1);
  EXPECT_EQ(status.workers(0).wanted_experts(), 30);
  EXPECT_FALSE(status.complete());
  v1::DrainRequest drain;
  drain.set_worker_id(5);
  v1::DrainResponse drained;
  const auto call = [&](grpc::ClientContext& context) {
    return stub->Drain(&context, drain, &drained);
  };
  EXPECT_EQ(ask("Bearer secret", call), grpc::StatusCode::NOT_FOUND);
  drain.set_worker_id(0);
  EXPECT_EQ(ask("Bearer secret", call), grpc::StatusCode::OK);
  v1::SetReplicasRequest replicas;
  replicas.set_replicas(100);
  v1::SetReplicasResponse set;
  EXPECT_EQ(ask("Bearer secret",
                [&](grpc::ClientContext& context) {
                  return stub->SetReplicas(&context, replicas, &set);
                }),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(CoordinatorService, ReportsArriveAtOnceWhenAStepWaits) {
  Running running(2);
  Stream first(running.server->address(), HelloOf(1));
  v1::ToWorker message;
  ASSERT_TRUE(first.Next(message));
  Stream second(running.server->address(), HelloOf(2));
  ASSERT_TRUE(first.Until([](const v1::ToWorker& m) { return m.has_hold(); }));
  PoolClientOptions options = ClientOptions();
  options.report_every = std::chrono::hours(1);
  Views views;
  PoolClient client(options, running.clock, RemotePool(running.server->address()), views.OnView());
  ASSERT_TRUE(views.WaitFor(2));
  second.Cancel();
  ASSERT_TRUE(views.WaitFor(1));
  v1::RouterReport report;
  v1::ExpertRange& range = *report.add_orphans();
  range.set_layer(1);
  range.set_begin(9);
  range.set_end(10);
  client.Report(report);
  ASSERT_TRUE(first.Until([](const v1::ToWorker& m) {
    return m.has_hold() && m.hold().number() > 1 && m.hold().urgent_entries() > 0;
  }));
}

TEST(CoordinatorService, ARouterOutlivesItsCoordinatorAndFindsTheNext) {
  Views views;
  SteadyClock clock;
  auto running = std::make_unique<Running>(1);
  const int port = running->server->port();
  PoolClient client(ClientOptions(), clock, RemotePool(running->server->address()), views.OnView());
  auto worker = std::make_unique<Stream>(running->server->address(), HelloOf(1));
  ASSERT_TRUE(views.WaitFor(1));
  running = nullptr;
  const grpc::Status end = worker->Finish();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::UNAVAILABLE) << end.error_message();
  EXPECT_EQ(views.last().size(), 1u);  // the last view stays
  running = std::make_unique<Running>(1, "", port);
  Stream again(running->server->address(), HelloOf(1));
  Stream other(running->server->address(), HelloOf(2));
  EXPECT_TRUE(views.WaitFor(2));
}

TEST(CoordinatorService, ARouterInTheSameProcessNeedsNoStream) {
  SteadyClock clock;
  CoordinatorOptions options;
  options.pool = ScriptedPool::Options(1);
  options.tick = std::chrono::milliseconds(5);
  Coordinator coordinator(options, clock, nullptr);
  Views views;
  PoolClient client(ClientOptions(), clock, InProcessPool(coordinator), views.OnView());
  auto server = *PoolServer::Start({"127.0.0.1", 0}, coordinator);
  Stream worker(server->address(), HelloOf(3));
  ASSERT_TRUE(views.WaitFor(1));
  EXPECT_THAT(coordinator.status().model().name(), HasSubstr("small"));
  EXPECT_EQ(coordinator.status().routers(), 1);
  client.Stop();
  server->Stop();
}

TEST(CoordinatorService, ATakenPortIsNamed) {
  Running running(1);
  const auto second =
      PoolServer::Start({"127.0.0.1", running.server->port()}, *running.coordinator);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("taken"));
}

TEST(PendingReport, GathersAndIsDueAtOnceForOrphans) {
  ManualClock clock;
  PendingReport pending(std::chrono::seconds(1));
  EXPECT_FALSE(pending.due().has_value());
  v1::RouterReport report;
  report.add_pairs(3);
  report.add_pairs(4);
  v1::LinkReport& link = *report.add_links();
  link.set_worker_id(2);
  link.set_failures(1);
  link.set_reason("gone");
  pending.Add(report, clock.Now());
  clock.Advance(std::chrono::seconds(2));
  ASSERT_LE(*pending.due(), clock.Now());
  pending.Take(clock.Now());
  pending.Add(report, clock.Now());
  report.mutable_links(0)->set_live(true);
  report.mutable_links(0)->clear_reason();
  report.mutable_links(0)->set_failures(2);
  pending.Add(report, clock.Now());
  EXPECT_EQ(*pending.due(), clock.Now() + std::chrono::seconds(1));
  v1::ExpertRange& range = *report.add_orphans();
  range.set_end(1);
  report.clear_links();
  pending.Add(report, clock.Now());
  EXPECT_EQ(*pending.due(), clock.Now());
  const v1::RouterReport taken = pending.Take(clock.Now());
  EXPECT_EQ(taken.pairs(1), 12u);
  ASSERT_EQ(taken.links_size(), 1);
  EXPECT_EQ(taken.links(0).failures(), 3);
  EXPECT_EQ(taken.links(0).reason(), "gone");
  EXPECT_TRUE(taken.links(0).live());
  EXPECT_EQ(taken.orphans_size(), 1);
  // The same orphans again are told, but not in every turn of a waiting step.
  pending.Add(report, clock.Now());
  EXPECT_GT(*pending.due(), clock.Now());
}

}  // namespace
}  // namespace sheaf
