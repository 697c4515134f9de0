// Health and reflection as probes and tools ask for them, on the wire: the health messages are two
// bytes.
#include <thread>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "router/api/grpc/grpc_inference_service.h"
#include "router/api/grpc/grpc_server.h"
#include "tests/api/api_fixture.h"

namespace sheaf {
namespace {

using testing::Contains;

constexpr char kServing = 1;
constexpr char kNotServing = 2;
constexpr char kServiceUnknown = 3;

grpc::ByteBuffer HealthRequest(const std::string& service) {
  std::string bytes;
  if (!service.empty()) bytes = std::string("\x0A") + static_cast<char>(service.size()) + service;
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// HealthCheckResponse.status.
char StatusIn(const grpc::ByteBuffer& response) {
  grpc::Slice slice;
  EXPECT_TRUE(response.DumpToSingleSlice(&slice).ok());
  const std::string bytes(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes.size() == 2 && bytes[0] == 0x08 ? bytes[1] : 0;
}

class GrpcHealth : public testing::Test {
 protected:
  void SetUp() override {
    api_.engine.SetReady(false);
    auto server = GrpcServer::Start({}, api_.engine, {service_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
  }

  // Waits for one operation; its outcome.
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    const auto deadline = std::chrono::system_clock::now() + std::chrono::seconds(10);
    return queue_.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT && ok;
  }

  std::pair<grpc::Status, char> Check(const std::string& service) {
    grpc::ClientContext context;
    auto call = stub_->PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                        HealthRequest(service), &queue_);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    EXPECT_TRUE(Next());
    return {status, status.ok() ? StatusIn(response) : '\0'};
  }

  ApiFixture api_;
  std::unique_ptr<grpc::Service> service_ = MakeInferenceService(api_.context);
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::CompletionQueue queue_;
};

TEST_F(GrpcHealth, WatchFollowsTheEngine) {
  for (const char* name : {"", "sheaf.v1.Inference"}) {
    SCOPED_TRACE(name);
    api_.engine.SetReady(false);
    grpc::ClientContext context;
    auto call = stub_->PrepareCall(&context, "/grpc.health.v1.Health/Watch", &queue_);
    call->StartCall(nullptr);
    ASSERT_TRUE(Next());
    call->WriteLast(HealthRequest(name), {}, nullptr);
    ASSERT_TRUE(Next());
    const auto wait_for = [&](char wanted) {
      grpc::ByteBuffer response;
      char got = 0;
      // A state just left may still be reported once.
      for (int i = 0; i < 2 && got != wanted; ++i) {
        call->Read(&response, nullptr);
        if (!Next()) return char{0};
        got = StatusIn(response);
      }
      return got;
    };
    EXPECT_EQ(wait_for(kNotServing), kNotServing);
    api_.engine.SetReady(true);
    EXPECT_EQ(wait_for(kServing), kServing);
    EXPECT_EQ(Check(name).second, kServing);
    api_.engine.SetReady(false);
    EXPECT_EQ(wait_for(kNotServing), kNotServing);
    EXPECT_EQ(Check(name).second, kNotServing);
    context.TryCancel();
    grpc::Status status;
    call->Finish(&status, nullptr);
    Next();
  }
}

TEST_F(GrpcHealth, UnknownServices) {
  EXPECT_EQ(Check("sheaf.v1.Other").first.error_code(), grpc::StatusCode::NOT_FOUND);
  grpc::ClientContext context;
  auto call = stub_->PrepareCall(&context, "/grpc.health.v1.Health/Watch", &queue_);
  call->StartCall(nullptr);
  ASSERT_TRUE(Next());
  call->WriteLast(HealthRequest("sheaf.v1.Other"), {}, nullptr);
  ASSERT_TRUE(Next());
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  ASSERT_TRUE(Next());
  EXPECT_EQ(StatusIn(response), kServiceUnknown);
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  Next();
}

TEST_F(GrpcHealth, ReflectionListsServicesAndTheirFiles) {
  namespace reflection = grpc::reflection::v1;
  auto stub = reflection::ServerReflection::NewStub(channel_);
  grpc::ClientContext context;
  auto stream = stub->ServerReflectionInfo(&context);
  reflection::ServerReflectionRequest request;
  reflection::ServerReflectionResponse response;

  request.set_list_services("");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  std::vector<std::string> names;
  for (const auto& service : response.list_services_response().service())
    names.push_back(service.name());
  for (const char* name :
       {"sheaf.v1.Inference", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection"}) {
    EXPECT_THAT(names, Contains(name));
  }

  request.set_file_containing_symbol("sheaf.v1.Inference.Generate");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  ASSERT_EQ(response.file_descriptor_response().file_descriptor_proto_size(), 1);
  google::protobuf::FileDescriptorProto file;
  ASSERT_TRUE(file.ParseFromString(response.file_descriptor_response().file_descriptor_proto(0)));
  EXPECT_EQ(file.name(), "sheaf/v1/inference.proto");

  request.set_file_by_filename("google/rpc/status.proto");  // with what it imports
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  EXPECT_EQ(response.file_descriptor_response().file_descriptor_proto_size(), 2);

  request.set_file_containing_symbol("no.such.Thing");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

}  // namespace
}  // namespace sheaf
