// Reflection as tools use it: every service that is listed can be described, with all that its file
// imports, in both versions of the protocol.
#include <map>
#include <set>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/api/grpc_fixture.h"

namespace sheaf {
namespace {

namespace reflection = grpc::reflection::v1;
using google::protobuf::FileDescriptorProto;
using testing::Contains;

// One stream of questions. v1alpha has the same messages on the wire.
class Questions {
 public:
  Questions(const std::shared_ptr<grpc::Channel>& channel, const std::string& version)
      : stub_(channel) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    call_ = stub_.PrepareCall(
        &context_, "/grpc.reflection." + version + ".ServerReflection/ServerReflectionInfo",
        &queue_);
    call_->StartCall(nullptr);
    EXPECT_TRUE(Next());
  }
  ~Questions() {
    context_.TryCancel();
    grpc::Status status;
    call_->Finish(&status, nullptr);
    Next();
  }

  reflection::ServerReflectionResponse Ask(const reflection::ServerReflectionRequest& request) {
    reflection::ServerReflectionResponse response;
    call_->Write(request, nullptr);
    if (!Next()) return response;
    call_->Read(&response, nullptr);
    EXPECT_TRUE(Next());
    return response;
  }

  std::vector<std::string> Services() {
    reflection::ServerReflectionRequest request;
    request.set_list_services("");
    std::vector<std::string> names;
    const auto response = Ask(request);
    for (const auto& service : response.list_services_response().service()) {
      names.push_back(service.name());
    }
    return names;
  }

  // The files of an answer; the first is the one asked for.
  std::vector<FileDescriptorProto> Files(const reflection::ServerReflectionRequest& request) {
    std::vector<FileDescriptorProto> files;
    const auto response = Ask(request);
    for (const std::string& bytes : response.file_descriptor_response().file_descriptor_proto()) {
      EXPECT_TRUE(files.emplace_back().ParseFromString(bytes));
    }
    return files;
  }

 private:
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  using Stub = grpc::TemplatedGenericStub<reflection::ServerReflectionRequest,
                                          reflection::ServerReflectionResponse>;
  Stub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<reflection::ServerReflectionRequest,
                                                reflection::ServerReflectionResponse>>
      call_;
};

class GrpcReflection : public GrpcFixture, public testing::WithParamInterface<const char*> {};

// As grpcurl does: ask for a service's file, then for what it imports and has not come yet, and
// build descriptors of them all.
TEST_P(GrpcReflection, EveryServiceCanBeDescribed) {
  Questions questions(channel_, GetParam());
  const auto names = questions.Services();
  for (const char* name :
       {"sheaf.v1.Inference", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection"}) {
    EXPECT_THAT(names, Contains(name));
  }
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    std::map<std::string, FileDescriptorProto> files;
    std::set<std::string> missing;
    const auto take = [&](const reflection::ServerReflectionRequest& request) {
      const auto answer = questions.Files(request);
      EXPECT_FALSE(answer.empty()) << request.ShortDebugString();
      for (const FileDescriptorProto& file : answer) files[file.name()] = file;
      missing.clear();
      for (const auto& [_, file] : files) {
        for (const std::string& import : file.dependency()) {
          if (!files.contains(import)) missing.insert(import);
        }
      }
      return !answer.empty();
    };
    reflection::ServerReflectionRequest request;
    request.set_file_containing_symbol(name);
    ASSERT_TRUE(take(request));
    while (!missing.empty()) {
      request.set_file_by_filename(*missing.begin());
      ASSERT_TRUE(take(request));
    }
    google::protobuf::DescriptorPool pool;
    while (!files.empty()) {
      const size_t before = files.size();
      std::erase_if(files, [&](const auto& entry) {
        const FileDescriptorProto& file = entry.second;
        const bool ready = std::all_of(
            file.dependency().begin(), file.dependency().end(),
            [&](const std::string& import) { return pool.FindFileByName(import) != nullptr; });
        EXPECT_TRUE(!ready || pool.BuildFile(file) != nullptr) << file.name();
        return ready;
      });
      ASSERT_LT(files.size(), before) << "imports go round";
    }
    const auto* service = pool.FindServiceByName(name);
    ASSERT_NE(service, nullptr);
    EXPECT_GT(service->method_count(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, GrpcReflection, testing::Values("v1", "v1alpha"));

TEST_F(GrpcFixture, ReflectionFindsFilesBySymbolAndName) {
  Questions questions(channel_, "v1");
  reflection::ServerReflectionRequest request;
  request.set_file_containing_symbol("sheaf.v1.Inference.Generate");
  auto files = questions.Files(request);
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].name(), "sheaf/v1/inference.proto");

  request.set_file_by_filename("google/rpc/status.proto");  // with what it imports
  EXPECT_EQ(questions.Files(request).size(), 2u);

  request.set_file_containing_symbol("no.such.Thing");
  EXPECT_EQ(questions.Ask(request).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace sheaf
