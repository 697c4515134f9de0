#include "router/api/grpc/grpc_reflection_v1.h"

#include <set>
#include <string>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "grpcpp/impl/server_initializer.h"

namespace sheaf {
namespace {

namespace v1 = grpc::reflection::v1;
using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;

// A file and all that it imports, each once, the file first.
void AddWithImports(const FileDescriptor& file, std::set<const FileDescriptor*>& added,
                    v1::FileDescriptorResponse* response) {
  if (!added.insert(&file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  response->add_file_descriptor_proto(proto.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i)
    AddWithImports(*file.dependency(i), added, response);
}

class Answers {
 public:
  void SetServices(std::vector<std::string> services) { services_ = std::move(services); }

  v1::ServerReflectionResponse Answer(const v1::ServerReflectionRequest& request) const {
    v1::ServerReflectionResponse response;
    response.set_valid_host(request.host());
    *response.mutable_original_request() = request;
    const DescriptorPool& pool = *DescriptorPool::generated_pool();
    switch (request.message_request_case()) {
      case v1::ServerReflectionRequest::kFileByFilename:
        AnswerFile(pool.FindFileByName(request.file_by_filename()), response);
        break;
      case v1::ServerReflectionRequest::kFileContainingSymbol:
        AnswerFile(pool.FindFileContainingSymbol(request.file_containing_symbol()), response);
        break;
      case v1::ServerReflectionRequest::kFileContainingExtension: {
        const auto& wanted = request.file_containing_extension();
        const auto* type = pool.FindMessageTypeByName(wanted.containing_type());
        const auto* extension =
            type == nullptr ? nullptr : pool.FindExtensionByNumber(type, wanted.extension_number());
        AnswerFile(extension == nullptr ? nullptr : extension->file(), response);
        break;
      }
      case v1::ServerReflectionRequest::kAllExtensionNumbersOfType:
        AnswerExtensions(pool, request.all_extension_numbers_of_type(), response);
        break;
      case v1::ServerReflectionRequest::kListServices:
        for (const std::string& name : services_) {
          response.mutable_list_services_response()->add_service()->set_name(name);
        }
        break;
      case v1::ServerReflectionRequest::MESSAGE_REQUEST_NOT_SET:
        Fail(grpc::StatusCode::INVALID_ARGUMENT, "no question", response);
        break;
    }
    return response;
  }

 private:
  static void Fail(grpc::StatusCode code, const std::string& message,
                   v1::ServerReflectionResponse& response) {
    response.mutable_error_response()->set_error_code(code);
    response.mutable_error_response()->set_error_message(message);
  }

  static void AnswerFile(const FileDescriptor* file, v1::ServerReflectionResponse& response) {
    if (file == nullptr) return Fail(grpc::StatusCode::NOT_FOUND, "not found", response);
    std::set<const FileDescriptor*> added;
    AddWithImports(*file, added, response.mutable_file_descriptor_response());
  }

  static void AnswerExtensions(const DescriptorPool& pool, const std::string& type_name,
                               v1::ServerReflectionResponse& response) {
    const auto* type = pool.FindMessageTypeByName(type_name);
    if (type == nullptr) return Fail(grpc::StatusCode::NOT_FOUND, "not found", response);
    std::vector<const google::protobuf::FieldDescriptor*> extensions;
    pool.FindAllExtensions(type, &extensions);
    auto* numbers = response.mutable_all_extension_numbers_response();
    numbers->set_base_type_name(type_name);
    for (const auto* extension : extensions) numbers->add_extension_number(extension->number());
  }

  std::vector<std::string> services_;  // set before the first call
};

// Reads, answers, reads: never two operations at once.
class Reactor final
    : public grpc::ServerBidiReactor<v1::ServerReflectionRequest, v1::ServerReflectionResponse> {
 public:
  explicit Reactor(const Answers& answers) : answers_(answers) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    response_ = answers_.Answer(request_);
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  const Answers& answers_;
  v1::ServerReflectionRequest request_;
  v1::ServerReflectionResponse response_;
};

class Service final : public v1::ServerReflection::CallbackService {
 public:
  grpc::ServerBidiReactor<v1::ServerReflectionRequest, v1::ServerReflectionResponse>*
  ServerReflectionInfo(grpc::CallbackServerContext*) override {
    return new Reactor(answers);
  }

  Answers answers;
};

class Plugin final : public grpc::ServerBuilderPlugin {
 public:
  std::string name() override { return "sheaf_reflection_v1"; }
  void InitServer(grpc::ServerInitializer* server) override { server->RegisterService(service_); }
  void Finish(grpc::ServerInitializer* server) override {
    service_->answers.SetServices(*server->GetServiceList());
  }
  void ChangeArguments(const std::string&, void*) override {}

 private:
  const std::shared_ptr<Service> service_ = std::make_shared<Service>();
};

class Option final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->push_back(std::make_unique<Plugin>());
  }
};

}  // namespace

std::unique_ptr<grpc::ServerBuilderOption> MakeReflectionV1Option() {
  return std::make_unique<Option>();
}

}  // namespace sheaf
