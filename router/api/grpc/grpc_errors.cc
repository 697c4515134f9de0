#include "router/api/grpc/grpc_errors.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "absl/strings/str_replace.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "router/api/request/json/excerpt.h"

namespace sheaf {
namespace {

// Both travel in headers, encoded, and clients take 8 KiB of those in all.
constexpr size_t kMaxErrorBytes = 1 << 10;
constexpr size_t kMaxDetailBytes = 2 << 10;

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
  static const std::map<std::string, std::string, std::less<>> paths = {
      {"temperature", "sampling.temperature"},
      {"top_p", "sampling.top_p"},
      {"top_k", "sampling.top_k"},
      {"min_p", "sampling.min_p"},
      {"repetition_penalty", "sampling.repetition_penalty"},
      {"frequency_penalty", "sampling.frequency_penalty"},
      {"presence_penalty", "sampling.presence_penalty"},
      {"seed", "sampling.seed"},
      {"logit_bias", "sampling.logit_bias"},
      {"allowed_token_ids", "sampling.allowed_token_ids"},
      {"bad_words", "sampling.bad_words"},
      {"max_tokens", "stop.max_tokens"},
      {"min_tokens", "stop.min_tokens"},
      {"stop", "stop.stop"},
      {"stop_token_ids", "stop.stop_token_ids"},
      {"ignore_eos", "stop.ignore_eos"},
      {"logprobs", "output.logprobs"},
      {"prompt_logprobs", "output.prompt_logprobs"},
      {"skip_special_tokens", "output.skip_special_tokens"},
      {"include_reasoning", "output.include_reasoning"},
      {"messages", "chat.messages"},
      {"chat_template_kwargs", "chat.template_arguments_json"},
      {"add_generation_prompt", "chat.add_generation_prompt"},
      {"continue_final_message", "chat.continue_final_message"},
      {"tools", "chat.tools"},
      {"tool_choice", "chat.tool_choice"},
      {"parallel_tool_calls", "chat.parallel_tool_calls"},
      {"enable_thinking", "chat.enable_thinking"},
      {"reasoning_effort", "chat.reasoning_effort"},
      {"thinking_token_budget", "chat.thinking_token_budget"},
      {"prompt", "input"},
      {"tokens", "token_ids"},
  };
  const size_t end_of_name = std::min(field.find_first_of("[."), field.size());
  const auto found = paths.find(std::string_view(field).substr(0, end_of_name));
  if (found == paths.end()) return field;
  const std::string path = found->second + field.substr(end_of_name);
  // A tool and a call have no member "function" here, and their JSON is text.
  return absl::StrReplaceAll(path, {{"].function.parameters", "].parameters_json"},
                                    {"].function.arguments", "].arguments_json"},
                                    {"].function", "]"}});
}

grpc::Status GrpcStatusOf(const ApiError& error, grpc::ServerContextBase* context) {
  // absl and gRPC number their codes alike.
  const auto code = static_cast<grpc::StatusCode>(error.status.code());
  google::rpc::Status details;
  details.set_code(static_cast<int>(code));
  details.set_message(Excerpt(std::string(error.status.message()), kMaxErrorBytes));
  google::rpc::ErrorInfo info;
  info.set_reason(Reason(error.status.code()));
  info.set_domain("sheaf");
  details.add_details()->PackFrom(info);
  if (!error.violations.empty()) {
    google::rpc::BadRequest bad_request;
    for (const FieldViolation& violation : error.violations) {
      if (bad_request.ByteSizeLong() > kMaxDetailBytes - 2 * kMaxQuotedBytes) break;
      auto* field = bad_request.add_field_violations();
      field->set_field(GrpcFieldPath(violation.field));
      field->set_description(Excerpt(violation.description, 2 * kMaxQuotedBytes));
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
