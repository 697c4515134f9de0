#pragma once
// LogWriter: lines of a log on their way to a file descriptor that may stop taking them.
//
// A pipe whose reader hangs must stop neither recovery nor shutdown, so nobody who logs ever waits
// for it: lines go into a bounded queue, whose own thread writes them. When it is full the oldest
// lines are dropped, and once lines flow again one line says how many were.
//
// Threads    any.
// Ownership  borrows the descriptor, whose mode others see unchanged.
// Errors     a descriptor that is closed or broken takes nothing: lines are dropped.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace sheaf {

class LogWriter {
 public:
  // `dropped_line` writes the line, its end included, for a number of dropped lines.
  LogWriter(int fd, size_t max_queued_bytes, std::function<std::string(uint64_t)> dropped_line);
  ~LogWriter();  // gives what is queued a moment to be written
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // With its end of line.
  void Write(std::string line);

  // The same; what is written afterwards, by whatever thread still runs, is not taken.
  void WriteLast(std::string line);

  // True when everything written before is out; false at the deadline.
  bool Flush(std::chrono::milliseconds patience);

  uint64_t dropped_lines() const;  // in all

 private:
  struct Queue;
  class Output;
  static void Run(const std::shared_ptr<Queue>& queue, int fd);

  // Shared with the thread, which may be left behind inside a write that never ends.
  const std::shared_ptr<Queue> queue_;
};

}  // namespace sheaf
