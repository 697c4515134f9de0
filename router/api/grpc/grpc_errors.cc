#include "router/api/grpc/grpc_errors.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sheaf {
namespace {

const char* Reason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_REQUEST";
    case absl::StatusCode::kNotFound:
      return "UNKNOWN_MODEL";
    case absl::StatusCode::kResourceExhausted:
      return "OVERLOADED";
    case absl::StatusCode::kUnavailable:
      return "NOT_SERVING";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE";
    default:
      return "GENERATION_FAILED";
  }
}

}  // namespace

std::string GrpcFieldPath(const std::string& field) {
  static const std::map<std::string, std::string> paths = {
      {"temperature", "sampling.temperature"},
      {"top_p", "sampling.top_p"},
      {"top_k", "sampling.top_k"},
      {"min_p", "sampling.min_p"},
      {"repetition_penalty", "sampling.repetition_penalty"},
      {"frequency_penalty", "sampling.frequency_penalty"},
      {"presence_penalty", "sampling.presence_penalty"},
      {"logit_bias", "sampling.logit_bias"},
      {"allowed_token_ids", "sampling.allowed_token_ids"},
      {"max_tokens", "stop.max_tokens"},
      {"min_tokens", "stop.min_tokens"},
      {"stop", "stop.stop"},
      {"stop_token_ids", "stop.stop_token_ids"},
      {"logprobs", "output.logprobs"},
      {"prompt_logprobs", "output.prompt_logprobs"},
      {"messages", "chat.messages"},
      {"prompt", "input"},
      {"tokens", "token_ids"},
  };
  const auto found = paths.find(field);
  return found == paths.end() ? field : found->second;
}

grpc::Status GrpcStatusOf(const ApiError& error, grpc::ServerContextBase* context) {
  // absl and gRPC number their codes alike.
  const auto code = static_cast<grpc::StatusCode>(error.status.code());
  google::rpc::Status details;
  details.set_code(static_cast<int>(code));
  details.set_message(std::string(error.status.message()));
  google::rpc::ErrorInfo info;
  info.set_reason(Reason(error.status.code()));
  info.set_domain("sheaf");
  details.add_details()->PackFrom(info);
  if (!error.violations.empty()) {
    google::rpc::BadRequest bad_request;
    for (const FieldViolation& violation : error.violations) {
      auto* field = bad_request.add_field_violations();
      field->set_field(GrpcFieldPath(violation.field));
      field->set_description(violation.description);
    }
    details.add_details()->PackFrom(bad_request);
  }
  if (error.retry_after) {
    const int64_t ms = std::max<int64_t>(
        std::chrono::ceil<std::chrono::milliseconds>(*error.retry_after).count(), 1);
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(ms / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(ms % 1000 * 1000000));
    details.add_details()->PackFrom(retry);
    if (context != nullptr)
      context->AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(ms));
  }
  return grpc::Status(code, details.message(), details.SerializeAsString());
}

}  // namespace sheaf
