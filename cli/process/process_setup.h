#pragma once
// What every serving process does first: logging, CPU target, and signals turned into something
// that can be waited for.
//
// The log goes to stderr through a LogWriter: whoever logs never waits for its reader. Lines of
// gRPC and protobuf are among ours. As JSON a line is one object: time, level, pid, message; a
// message that begins with "request ID: " has request_id, too, and the lines of requests have
// members of their own (cli/process/access_log.h).
//
// Threads: main's thread, before any other thread starts (the signal mask is inherited).

#include <spdlog/logger.h>

#include <chrono>
#include <cstdint>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "cli/options/options.h"

namespace sheaf {

// Sets up the log and the kernels' CPU target, raises the limit of open files as far as it may, and
// sees that the process may start threads.
// Errors: kInvalidArgument for the CPU target; kResourceExhausted when there is no room for
// threads.
absl::Status SetUpProcess(const ProcessOptions& options);

// For lines about requests that have ended: as JSON their text is members of the line's object.
spdlog::logger& RequestLogger();

// Lines that stderr did not take, since the start.
uint64_t DroppedLogLines();

// Blocks SIGINT and SIGTERM for the process and takes them on a thread of its own, from the moment
// it is made. The first asks for an end in order (WaitFor), a second one ends the process at once.
class StopSignals {
 public:
  // Blocks the two: from now on they wait for a StopSignals to be made. For what a process does
  // before its first thread.
  static void Hold();

  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // True as soon as one of the signals has arrived; false at the timeout.
  bool WaitFor(std::chrono::milliseconds timeout);

  // While one lives the process serves nobody yet, so there is nothing to end in order: already the
  // first signal ends it, with status 0, whatever its threads are doing.
  class NothingToFinish {
   public:
    explicit NothingToFinish(StopSignals& signals);
    ~NothingToFinish();
    NothingToFinish(const NothingToFinish&) = delete;
    NothingToFinish& operator=(const NothingToFinish&) = delete;

   private:
    StopSignals& signals_;
  };

 private:
  void Watch();

  UniqueFd signals_;
  UniqueFd ending_;  // readable when the thread shall end
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool nothing_to_finish_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

// Ends the process without waiting for its threads, after what was logged.
[[noreturn]] void EndNow(int status);

// Prints "sheaf: <message>" to stderr as one line, after what was logged, and ends the log: threads
// that still run write nothing below it. Returns exit status 1.
int Fail(const absl::Status& status);

}  // namespace sheaf
