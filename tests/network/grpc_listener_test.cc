// gRPC's port under too many connections.
#include "network/grpc_listener.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

namespace health = grpc::health::v1;

class Healthy final : public health::Health::CallbackService {
  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const health::HealthCheckRequest*,
                                  health::HealthCheckResponse* response) override {
    response->set_status(health::HealthCheckResponse::SERVING);
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

class GrpcListenerTest : public testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    auto listener = GrpcListener::Listen({.host = "127.0.0.1",
                                          .max_connections = 2,
                                          .on_refused = [this] { ++refused_; }},
                                         builder);
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    listener_->Start();
  }
  void TearDown() override {
    listener_->Stop();
    server_->Shutdown();
  }

  std::shared_ptr<grpc::Channel> Channel() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(listener_->port()),
                                     grpc::InsecureChannelCredentials(), arguments);
  }
  static grpc::StatusCode Check(const std::shared_ptr<grpc::Channel>& channel, bool wait = false) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    context.set_wait_for_ready(wait);
    health::HealthCheckResponse response;
    return health::Health::NewStub(channel)->Check(&context, {}, &response).error_code();
  }

  Healthy service_;
  std::atomic<int> refused_{0};
  std::unique_ptr<GrpcListener> listener_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(GrpcListenerTest, TheNewestIsRefusedAndComesInWhenAnOlderOneLeaves) {
  auto first = Channel(), second = Channel();
  EXPECT_EQ(Check(first), grpc::StatusCode::OK);
  EXPECT_EQ(Check(second), grpc::StatusCode::OK);
  auto third = Channel();
  EXPECT_EQ(Check(third), grpc::StatusCode::UNAVAILABLE);
  // It is counted when its socket is closed, of which the client may have heard before.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (refused_ == 0 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  EXPECT_GE(refused_, 1);
  EXPECT_EQ(Check(first), grpc::StatusCode::OK);  // nobody else suffers
  second.reset();
  EXPECT_EQ(Check(third, /*wait=*/true), grpc::StatusCode::OK);
}

TEST_F(GrpcListenerTest, ConnectionsThatCameAndWentCostNoPlace) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Check(Channel(), /*wait=*/true), grpc::StatusCode::OK);
}

}  // namespace
}  // namespace sheaf
