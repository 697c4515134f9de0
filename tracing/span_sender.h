#pragma once
// SpanSender: takes one encoded batch to a collector. The seam between the exporter, which decides
// when and how often, and the network.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/clock.h"

namespace sheaf {

struct SendResult {
  enum class What {
    kTaken,     // the collector has it
    kTryLater,  // it is away, slow or full
    kRefused,   // it will never take these bytes
  };
  What what = What::kTaken;
  std::string why;                        // not taken: one line. Taken: what the collector remarks
  std::optional<Duration> retry_after{};  // kTryLater: when it wants to be asked again
  int64_t rejected_spans = 0;             // kTaken: of them, refused
};

class SpanSender {
 public:
  virtual ~SpanSender() = default;
  // Waits no longer than `timeout`, and no longer than about 100 ms once `give_up` is true. One
  // call at a time.
  virtual SendResult Send(const std::string& bytes, Duration timeout,
                          const std::function<bool()>& give_up) = 0;
};

}  // namespace sheaf
