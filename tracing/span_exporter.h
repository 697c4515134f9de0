#pragma once
// SpanExporter: brings finished spans to a collector in batches, from a thread of its own. Whoever
// makes spans never waits for it: what does not fit into the queue is dropped and counted.
//
// Batch    sent when batch_spans wait, or the oldest of them has waited batch_delay.
// Failure  a batch that the collector does not take is tried again after pauses (send_pauses.h),
//          until keep_trying is over; meanwhile the queue fills up to its bound.
// Stop     what waits is sent, once; what the collector has not taken when the patience is over, or
//          fails to take, is dropped.
// Log      a first failure, and then at most a line a minute; and that it is well again.
//
// Threads    Add: any, a short lock. Stop: the owner's.
// Ownership  borrows counters and clock. The destructor stops without patience.
// Memory     max_queued_spans, about 1 KB each, and once more a batch as bytes.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/log_limit.h"
#include "tracing/span.h"
#include "tracing/span_counters.h"
#include "tracing/span_sender.h"

namespace sheaf {

struct SpanExporterOptions {
  size_t max_queued_spans = 8192;  // the batch that is being sent included
  size_t batch_spans = 512;
  Duration batch_delay = std::chrono::seconds(1);
  Duration send_timeout = std::chrono::seconds(5);
  Duration keep_trying = std::chrono::seconds(60);  // with one batch
  Duration first_pause = std::chrono::milliseconds(500);
  Duration longest_pause = std::chrono::seconds(15);
};

class SpanExporter {
 public:
  struct Parts {
    std::unique_ptr<SpanSender> sender;
    SpanSource source;
    SpanCounters& counters;
    const Clock& clock;  // steady; waits go by the system's
    std::function<uint64_t()> random;
  };

  SpanExporter(const SpanExporterOptions& options, Parts parts);
  ~SpanExporter();
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  // The spans of one trace: all of them, or none where there is no room. False: none.
  bool Add(std::vector<Span> spans);
  void Stop(Duration patience);

 private:
  void Run();
  // Empty: it was stopped and nothing is left.
  std::vector<Span> NextBatch();
  void Deliver(const std::vector<Span>& batch);
  // False: stopped meanwhile.
  bool Pause(Duration pause);
  void DropAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Well();
  void Ill(const SendResult& result);

  const SpanExporterOptions options_;
  const Parts parts_;
  LogLimit failures_{{.burst = 1, .period = std::chrono::minutes(1)}};
  bool ill_ = false;  // the thread's

  absl::Mutex mutex_;
  absl::CondVar changed_;
  struct Waiting {
    Span span;
    TimePoint since;
  };
  std::deque<Waiting> queue_ ABSL_GUARDED_BY(mutex_);
  size_t sending_ ABSL_GUARDED_BY(mutex_) = 0;  // spans of the batch that was taken last
  std::optional<TimePoint> stop_at_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sheaf
