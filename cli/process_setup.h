#pragma once
// What every serving process does first: logging, CPU target, and signals turned into a flag that
// can be waited for.
//
// Threads: main's thread, before any other thread starts (the signal mask is inherited).

#include <chrono>

#include "absl/status/status.h"
#include "cli/options.h"

namespace sheaf {

// Sets up spdlog on stderr and the kernels' CPU target.
absl::Status SetUpProcess(const ProcessOptions& options);

// Blocks SIGINT and SIGTERM for the process and takes them from a signalfd.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // True as soon as one of the signals has arrived; false at the timeout.
  bool WaitFor(std::chrono::milliseconds timeout);

 private:
  int fd_ = -1;
  bool stopped_ = false;
};

// Prints "sheaf: <message>" to stderr as one line; returns exit status 1.
int Fail(const absl::Status& status);

}  // namespace sheaf
