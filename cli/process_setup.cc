#include "cli/process_setup.h"

#include <poll.h>
#include <signal.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/string_view.h"
#include "base/one_line.h"
#include "base/status.h"
#include "kernels/cpu_target.h"

namespace sheaf {
namespace {

// %* in the JSON pattern: the message as a JSON string, quotes and control characters escaped.
class JsonMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const std::string text(message.payload.data(), message.payload.size());
    const std::string json =
        nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    out.append(json.data(), json.data() + json.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

}  // namespace

absl::Status SetUpProcess(const ProcessOptions& options) {
  auto logger = spdlog::stderr_color_mt("sheaf");
  spdlog::set_default_logger(logger);
  spdlog::set_level(options.log_level == "warn" ? spdlog::level::warn
                                                : spdlog::level::from_str(options.log_level));
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<JsonMessage>('*').set_pattern(
      options.log_format == "json"
          ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","pid":%P,"message":%*})"
          : "%H:%M:%S.%e %L [%P] %v");
  spdlog::set_formatter(std::move(formatter));
  signal(SIGPIPE, SIG_IGN);
  return kernels::ForceCpuTarget(options.cpu_target);
}

StopSignals::StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

StopSignals::~StopSignals() { close(fd_); }

bool StopSignals::WaitFor(std::chrono::milliseconds timeout) {
  if (stopped_) return true;
  pollfd entry{fd_, POLLIN, 0};
  stopped_ = poll(&entry, 1, static_cast<int>(timeout.count())) == 1;
  return stopped_;
}

int Fail(const absl::Status& status) {
  const absl::string_view message = status.message();
  std::fprintf(stderr, "sheaf: %s\n",
               OneLine(std::string_view(message.data(), message.size())).c_str());
  return 1;
}

}  // namespace sheaf
