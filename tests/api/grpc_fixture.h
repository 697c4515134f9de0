#pragma once
// A gRPC server of the Inference service on loopback, over a fake engine, and a client of it.

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "router/api/grpc/grpc_inference_service.h"
#include "router/api/grpc/grpc_server.h"
#include "sheaf/v1/inference.grpc.pb.h"
#include "tests/api/api_fixture.h"

namespace sheaf {

class GrpcFixture : public testing::Test {
 protected:
  void SetUp() override {
    auto server = GrpcServer::Start({}, api_.engine, {service_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    ASSERT_NE(server_->port(), 0);
    channel_ = Channel();
    stub_ = v1::Inference::NewStub(channel_);
  }

  std::shared_ptr<grpc::Channel> Channel() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                     grpc::InsecureChannelCredentials(), arguments);
  }

  static v1::GenerateRequest Hello() {
    v1::GenerateRequest request;
    request.set_text("hello");
    return request;
  }

  struct Result {
    std::vector<v1::GenerateResponse> messages;
    grpc::Status status;
    std::string text() const {
      std::string joined;
      for (const auto& message : messages)
        joined += message.delta().text() + message.finished().text();
      return joined;
    }
  };

  Result Generate(const v1::GenerateRequest& request, grpc::ClientContext* given = nullptr) {
    grpc::ClientContext own;
    grpc::ClientContext& context = given == nullptr ? own : *given;
    auto reader = stub_->Generate(&context, request);
    Result result;
    for (v1::GenerateResponse message; reader->Read(&message);) result.messages.push_back(message);
    result.status = reader->Finish();
    return result;
  }

  template <typename Detail>
  static Detail DetailOf(const grpc::Status& status) {
    google::rpc::Status details;
    EXPECT_TRUE(details.ParseFromString(status.error_details()));
    EXPECT_EQ(details.code(), status.error_code());
    EXPECT_EQ(details.message(), status.error_message());
    Detail found;
    bool any = false;
    for (const auto& detail : details.details())
      any |= detail.Is<Detail>() && detail.UnpackTo(&found);
    EXPECT_TRUE(any) << "no " << Detail::descriptor()->full_name();
    return found;
  }

  bool WaitForMetric(const std::string& line) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      if (api_.Metrics().find(line + "\n") != std::string::npos) return true;
      std::this_thread::yield();
    }
    return false;
  }

  ApiFixture api_;
  std::unique_ptr<grpc::Service> service_ = MakeInferenceService(api_.context);
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

}  // namespace sheaf
