#include "cli/process/library_logs.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <string>
#include <string_view>

#include "base/log_limit.h"
#include "base/one_line.h"

namespace sheaf {
namespace {

using spdlog::level::level_enum;

// A library's errors are about a message or a peer; what ends the process says so itself.
void Say(const char* library, level_enum level, std::string_view file, int line,
         std::string_view message) {
  static LogLimit limit({.burst = 20, .period = std::chrono::seconds(10)});
  if (!spdlog::should_log(level)) return;
  const auto note = limit.Say(std::chrono::steady_clock::now());
  if (!note) return;
  const std::string_view name = file.substr(file.rfind('/') + 1);
  spdlog::log(level, "{}: {} ({}:{}){}", library, OneLine(message), name, line, *note);
}

void OnGrpcLine(gpr_log_func_args* args) {
  const level_enum level = args->severity == GPR_LOG_SEVERITY_ERROR  ? spdlog::level::warn
                           : args->severity == GPR_LOG_SEVERITY_INFO ? spdlog::level::info
                                                                     : spdlog::level::debug;
  Say("gRPC", level, args->file, args->line, args->message);
}

void OnProtobufLine(google::protobuf::LogLevel severity, const char* file, int line,
                    const std::string& message) {
  const level_enum level = severity >= google::protobuf::LOGLEVEL_FATAL     ? spdlog::level::err
                           : severity >= google::protobuf::LOGLEVEL_WARNING ? spdlog::level::warn
                                                                            : spdlog::level::info;
  Say("protobuf", level, file, line, message);
}

}  // namespace

void RouteLibraryLogs() {
  gpr_set_log_function(&OnGrpcLine);
  google::protobuf::SetLogHandler(&OnProtobufLine);
}

}  // namespace sheaf
