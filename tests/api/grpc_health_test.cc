// Health as probes and balancers ask for it.
#include <thread>

#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "router/api/grpc/grpc_health_service.h"
#include "tests/api/grpc_fixture.h"

namespace sheaf {
namespace {

namespace health = grpc::health::v1;
using Response = health::HealthCheckResponse;
using testing::HasSubstr;

constexpr const char* kServices[] = {"sheaf.v1.Inference", "grpc.health.v1.Health",
                                     "grpc.reflection.v1.ServerReflection",
                                     "grpc.reflection.v1alpha.ServerReflection"};

health::HealthCheckRequest Ask(const std::string& service) {
  health::HealthCheckRequest request;
  request.set_service(service);
  return request;
}

class GrpcHealth : public GrpcFixture {
 protected:
  void SetUp() override {
    GrpcFixture::SetUp();
    health_ = health::Health::NewStub(channel_);
  }

  std::pair<grpc::StatusCode, Response::ServingStatus> Check(const std::string& service) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = health_->Check(&context, Ask(service), &response);
    return {status.error_code(), response.status()};
  }

  std::unique_ptr<health::Health::Stub> health_;
};

// A Watch call; its reads end after ten seconds.
class Watch {
 public:
  Watch(health::Health::Stub& stub, const std::string& service) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    reader_ = stub.Watch(&context_, Ask(service));
  }
  ~Watch() { context_.TryCancel(); }

  // UNKNOWN: the call is over.
  Response::ServingStatus Next() {
    Response response;
    return reader_->Read(&response) ? response.status() : Response::UNKNOWN;
  }
  grpc::Status Finish() { return reader_->Finish(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<Response>> reader_;
};

TEST_F(GrpcHealth, ServicesAreReadyOrNot) {
  for (const bool ready : {false, true, false}) {
    api_.engine.SetReady(ready);
    for (const char* name : kServices) {
      SCOPED_TRACE(name);
      EXPECT_EQ(Check(name),
                std::pair(grpc::StatusCode::OK, ready ? Response::SERVING : Response::NOT_SERVING));
    }
    EXPECT_EQ(Check(""), std::pair(grpc::StatusCode::OK, Response::SERVING));  // it lives
  }
}

TEST_F(GrpcHealth, TheEmptyNameIsLiveness) {
  api_.engine.SetLive(false);
  EXPECT_EQ(Check("").second, Response::NOT_SERVING);
  EXPECT_EQ(Check("sheaf.v1.Inference").second, Response::SERVING);
  api_.engine.SetLive(true);
  EXPECT_EQ(Check("").second, Response::SERVING);
}

TEST_F(GrpcHealth, WatchFollowsTheEngine) {
  for (const char* name : kServices) {
    SCOPED_TRACE(name);
    api_.engine.SetReady(false);
    Watch watch(*health_, name);
    EXPECT_EQ(watch.Next(), Response::NOT_SERVING);
    api_.engine.SetReady(true);
    EXPECT_EQ(watch.Next(), Response::SERVING);
    api_.engine.SetReady(false);
    EXPECT_EQ(watch.Next(), Response::NOT_SERVING);
  }
  Watch watch(*health_, "");
  EXPECT_EQ(watch.Next(), Response::SERVING);
  api_.engine.SetLive(false);
  EXPECT_EQ(watch.Next(), Response::NOT_SERVING);
}

// Nothing is polled: a change that is told arrives although the next look is an hour away.
TEST(GrpcHealthService, AChangeIsToldAtOnce) {
  FakeGenerationEngine engine;
  const auto service = GrpcHealthService::Create(engine, std::chrono::hours(1));
  service->SetServices({"a"});
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(service->service());
  const auto server = builder.BuildAndStart();
  const auto stub = health::Health::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  {
    Watch watch(*stub, "a");
    for (const bool ready : {true, false, true}) {
      engine.SetReady(ready);
      service->Changed();
      EXPECT_EQ(watch.Next(), ready ? Response::SERVING : Response::NOT_SERVING);
    }
  }
  service->Stop();
  server->Shutdown(std::chrono::system_clock::now());
}

TEST_F(GrpcHealth, ManyWatchers) {
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < 50; ++i) {
    watches.push_back(std::make_unique<Watch>(*health_, "sheaf.v1.Inference"));
    EXPECT_EQ(watches.back()->Next(), Response::SERVING);
    if (i % 3 == 0) watches.erase(watches.begin());  // some leave
  }
  api_.engine.SetReady(false);
  for (const auto& watch : watches) EXPECT_EQ(watch->Next(), Response::NOT_SERVING);
}

TEST_F(GrpcHealth, UnknownServices) {
  EXPECT_EQ(Check("sheaf.v1.Other").first, grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Check("sheaf.v1.Inference ").first, grpc::StatusCode::NOT_FOUND);
  Watch watch(*health_, "sheaf.v1.Other");
  EXPECT_EQ(watch.Next(), Response::SERVICE_UNKNOWN);
}

TEST_F(GrpcHealth, WatchersLearnOfTheShutdownAndDoNotHoldIt) {
  Watch watch(*health_, "sheaf.v1.Inference");
  Watch live(*health_, "");
  Watch unknown(*health_, "sheaf.v1.Other");
  EXPECT_EQ(watch.Next(), Response::SERVING);
  EXPECT_EQ(live.Next(), Response::SERVING);
  EXPECT_EQ(unknown.Next(), Response::SERVICE_UNKNOWN);
  const auto start = std::chrono::steady_clock::now();
  server_->Stop(std::chrono::seconds(60));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  EXPECT_EQ(watch.Next(), Response::NOT_SERVING);
  EXPECT_EQ(live.Next(), Response::NOT_SERVING);
  EXPECT_EQ(watch.Next(), Response::UNKNOWN);
  EXPECT_EQ(unknown.Next(), Response::UNKNOWN);
  EXPECT_EQ(watch.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(GrpcHealth, UndecodableQuestions) {
  grpc::GenericStub stub(channel_);
  for (const char* method : {"Check", "Watch"}) {
    SCOPED_TRACE(method);
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    const grpc::Slice not_utf8("\x0A\x02\xC3\x28");
    auto call = stub.PrepareUnaryCall(&context, std::string("/grpc.health.v1.Health/") + method,
                                      grpc::ByteBuffer(&not_utf8, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("grpc.health.v1.HealthCheckRequest"));
  }
}

}  // namespace
}  // namespace sheaf
