#include "cli/process/process_setup.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/cpu_topology.h"
#include "base/one_line.h"
#include "base/status.h"
#include "cli/process/library_logs.h"
#include "cli/process/log_writer.h"
#include "kernels/simd/cpu_target.h"
#include "network/descriptor_shares.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMaxQueuedLogBytes = 1 << 20;
constexpr milliseconds kLastLineTime{500};
// Some senders address a process and its group: that is one signal.
constexpr milliseconds kSameSignal{200};

constexpr std::string_view kRequestLog = "requests";

std::string JsonText(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// "7" of "request 7: ..."; empty: it is not about one.
std::string_view RequestOf(std::string_view message) {
  constexpr std::string_view kBegin = "request ";
  if (message.substr(0, kBegin.size()) != kBegin) return {};
  message.remove_prefix(kBegin.size());
  const size_t end = message.find(": ");
  return end == std::string_view::npos ? std::string_view() : message.substr(0, end);
}

// %* in the JSON pattern: the message as a JSON string, quotes and control characters escaped, and
// the request that it is about. A line of the request log is members already.
class JsonMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    std::string members;
    if (std::string_view(message.logger_name.data(), message.logger_name.size()) == kRequestLog) {
      members = R"("message":"request ended",)" + std::string(text);
    } else {
      members = "\"message\":" + JsonText(text);
      if (const std::string_view id = RequestOf(text); !id.empty()) {
        members += ",\"request_id\":" + JsonText(id);
      }
    }
    out.append(members.data(), members.data() + members.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

std::unique_ptr<spdlog::formatter> MakeFormatter(const std::string& format) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<JsonMessage>('*').set_pattern(
      format == "json" ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","pid":%P,%*})"
                       : "%H:%M:%S.%e %L [%P] %v");
  return formatter;
}

std::string Format(spdlog::formatter& formatter, const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t line;
  formatter.format(message, line);
  return std::string(line.data(), line.size());
}

class LogWriterSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LogWriterSink(std::shared_ptr<LogWriter> writer) : writer_(std::move(writer)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    writer_->Write(Format(*formatter_, message));
  }
  void flush_() override {}

  const std::shared_ptr<LogWriter> writer_;
};

// Of this process, once it is set up. Its destruction at exit writes what is left.
std::shared_ptr<LogWriter>& ProcessLog() {
  static std::shared_ptr<LogWriter> log;
  return log;
}

std::shared_ptr<spdlog::logger>& RequestLines() {
  static auto log = std::make_shared<spdlog::logger>(std::string(kRequestLog));  // to nowhere
  return log;
}

void SetUpLog(const ProcessOptions& options) {
  std::shared_ptr<spdlog::formatter> formatter = MakeFormatter(options.log_format);
  ProcessLog() = std::make_shared<LogWriter>(
      STDERR_FILENO, kMaxQueuedLogBytes, [formatter](uint64_t count) {
        const std::string text =
            absl::StrFormat("%d log lines were dropped: stderr took none", count);
        return Format(*formatter, {"", spdlog::level::warn, text});
      });
  const auto sink = std::make_shared<LogWriterSink>(ProcessLog());
  const auto level = options.log_level == "warn" ? spdlog::level::warn
                                                 : spdlog::level::from_str(options.log_level);
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("sheaf", sink));
  spdlog::set_level(level);
  spdlog::set_formatter(MakeFormatter(options.log_format));
  RequestLines() = std::make_shared<spdlog::logger>(std::string(kRequestLog), sink);
  RequestLines()->set_level(level);
  RouteLibraryLogs();
}

// What the network's libraries start beside our own, tried at once: in the middle of a start they
// would abort instead of saying what is wrong.
absl::Status SeeThatThreadsStart() {
  const int wanted = 32 + 2 * DetectCpuTopology().usable_cores;
  absl::Mutex gate;
  std::vector<pthread_t> threads;
  int error = 0;
  {
    absl::MutexLock closed(&gate);  // all of them are there at the same time
    for (int i = 0; i < wanted && error == 0; ++i) {
      pthread_t thread;
      error = pthread_create(
          &thread, nullptr,
          [](void* argument) -> void* {
            absl::MutexLock open(static_cast<absl::Mutex*>(argument));
            return nullptr;
          },
          &gate);
      if (error == 0) threads.push_back(thread);
    }
  }
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  if (error == 0) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "cannot start threads: wanted room for %d, got %d: %s: the limit on processes (ulimit -u) or "
      "on the container's pids is too low",
      wanted, threads.size(), std::strerror(error)));
}

sigset_t SignalsToStop() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// glibc lets the bounds grow with the largest block that was ever freed, up to 64 MB that each
// thread's arena then keeps for good; these stay.
void GiveFreedMemoryBack() {
  constexpr int kLargeBlockBytes = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargeBlockBytes);
  mallopt(M_TRIM_THRESHOLD, kLargeBlockBytes);
}

}  // namespace

absl::Status SetUpProcess(const ProcessOptions& options) {
  GiveFreedMemoryBack();
  signal(SIGPIPE, SIG_IGN);
  SHEAF_RETURN_IF_ERROR(SeeThatThreadsStart());
  SetUpLog(options);
  const DescriptorLimit files = RaiseDescriptorLimit();
  if (files.now > files.before) {
    spdlog::info("limit of open files: raised from {} to the hard limit, {}", files.before,
                 files.now);
  }
  return kernels::ForceCpuTarget(options.cpu_target);
}

spdlog::logger& RequestLogger() { return *RequestLines(); }

uint64_t DroppedLogLines() {
  const auto log = ProcessLog();
  return log ? log->dropped_lines() : 0;
}

void EndNow(int status) {
  if (const auto log = ProcessLog()) log->Flush(milliseconds(100));
  _exit(status);
}

void StopSignals::Hold() {
  const sigset_t set = SignalsToStop();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

StopSignals::StopSignals() : ending_(eventfd(0, EFD_CLOEXEC)) {
  Hold();
  const sigset_t set = SignalsToStop();
  signals_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  thread_ = std::thread([this] { Watch(); });
}

StopSignals::~StopSignals() {
  eventfd_write(ending_.get(), 1);
  thread_.join();
}

void StopSignals::Watch() {
  std::chrono::steady_clock::time_point first;
  for (;;) {
    pollfd entries[] = {{signals_.get(), POLLIN, 0}, {ending_.get(), POLLIN, 0}};
    if (poll(entries, 2, -1) < 0 && errno != EINTR) return;
    if (entries[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signals_.get(), &info, sizeof(info)) != sizeof(info)) continue;
    const auto now = std::chrono::steady_clock::now();
    bool at_once = false, again = false;
    {
      absl::MutexLock lock(&mutex_);
      again = std::exchange(stopped_, true);
      at_once = nothing_to_finish_;
    }
    if (!again) first = now;
    if (at_once) {
      spdlog::info("{}: stopped before it served", strsignal(static_cast<int>(info.ssi_signo)));
      EndNow(0);
    }
    if (again && now - first >= kSameSignal) {
      spdlog::warn("{} again: ends at once", strsignal(static_cast<int>(info.ssi_signo)));
      EndNow(128 + static_cast<int>(info.ssi_signo));
    }
  }
}

bool StopSignals::WaitFor(milliseconds timeout) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&stopped_), absl::Milliseconds(timeout.count()));
}

StopSignals::NothingToFinish::NothingToFinish(StopSignals& signals) : signals_(signals) {
  bool stopped = false;
  {
    absl::MutexLock lock(&signals.mutex_);
    signals.nothing_to_finish_ = true;
    stopped = signals.stopped_;
  }
  if (stopped) EndNow(0);
}

StopSignals::NothingToFinish::~NothingToFinish() {
  absl::MutexLock lock(&signals_.mutex_);
  signals_.nothing_to_finish_ = false;
}

int Fail(const absl::Status& status) {
  const absl::string_view message = status.message();
  const std::string line =
      "sheaf: " + OneLine(std::string_view(message.data(), message.size())) + "\n";
  if (const auto log = ProcessLog()) {
    log->WriteLast(line);
    log->Flush(kLastLineTime);
  } else {
    std::fputs(line.c_str(), stderr);
  }
  return 1;
}

}  // namespace sheaf
