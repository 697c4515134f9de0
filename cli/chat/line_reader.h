#pragma once
// LineReader: lines of a file descriptor, as they come.
//
// Threads    One at a time.
// Errors     kResourceExhausted: a line of more than kMaxLineBytes; it is not read to its end.
//            kUnavailable: the descriptor cannot be read.
// Cost       O(bytes). Waits without a deadline: for a person, or for the other end of a pipe.

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "cli/chat/interrupts.h"

namespace sheaf {

class LineReader {
 public:
  static constexpr size_t kMaxLineBytes = size_t{1} << 20;

  enum class Event { kLine, kInterrupt, kEnd };

  // `interrupts`: null = none are waited for.
  LineReader(int fd, Interrupts* interrupts) : fd_(fd), interrupts_(interrupts) {}

  // kLine: `line` is the next one without its newline; the last one need not have any. kInterrupt:
  // what came of a line before it is forgotten.
  absl::StatusOr<Event> Next(std::string& line);

 private:
  bool TakeLine(std::string& line);

  const int fd_;
  Interrupts* const interrupts_;  // not owned
  std::string buffer_;
  size_t searched_ = 0;  // bytes of buffer_ without a newline
  bool ended_ = false;
};

}  // namespace sheaf
