#pragma once
// AccessLog: a log line for each generation request, and its share in the figures by key.
//
//   request id=cmpl-7 face=http key=none model=m choices=1 in=12 cached=0 out=30 bytes=123
//     queue_s=0.000 ttft_s=0.123 total_s=1.204 outcome=stop            (one line)
// With --log-format json the same as members of the line's object. Texts that a client may choose
// (the id) are quoted where they hold more than letters, digits and ._:/+@-; the key is a hash.
//
// Threads    any. Ownership  borrows the metrics.
// Cost       about 1 us to format and hand over (access_log_bench).

#include <string>

#include "router/api/generation/request_log.h"
#include "router/metrics/key_metrics.h"

namespace sheaf {

struct AccessLogFormat {
  bool json = false;
  std::string model;  // what is served
};

// The line without time and level: text, or the members of a JSON object without its braces. Pure.
std::string AccessLine(const EndedRequest& request, const AccessLogFormat& format);

class AccessLog final : public RequestLog {
 public:
  // `keys`: null for no figures by key.
  AccessLog(AccessLogFormat format, bool write_lines, KeyMetrics* keys);

  void Ended(const EndedRequest& request) override;

 private:
  const AccessLogFormat format_;
  const bool write_lines_;
  KeyMetrics* const keys_;
};

}  // namespace sheaf
