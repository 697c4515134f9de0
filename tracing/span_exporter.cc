#include "tracing/span_exporter.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/time/time.h"
#include "tracing/otlp_encoding.h"
#include "tracing/send_pauses.h"

namespace sheaf {
namespace {

// Abseil's waits go by the clock of the wall, which may be set: no single one is long.
constexpr Duration kLongestWait = std::chrono::seconds(1);

absl::Duration WaitOf(Duration left) { return absl::FromChrono(std::min(left, kLongestWait)); }

}  // namespace

SpanExporter::SpanExporter(const SpanExporterOptions& options, Parts parts)
    : options_(options), parts_(std::move(parts)), thread_([this] {
        pthread_setname_np(pthread_self(), "sheaf-traces");
        Run();
      }) {}

SpanExporter::~SpanExporter() { Stop(Duration(0)); }

bool SpanExporter::Add(std::vector<Span> spans) {
  const auto count = static_cast<int64_t>(spans.size());
  const TimePoint now = parts_.clock.Now();
  SpanDrop cause = SpanDrop::kQueueFull;
  {
    absl::MutexLock lock(&mutex_);
    if (stop_at_) {
      cause = SpanDrop::kShutdown;
    } else if (queue_.size() + sending_ + spans.size() <= options_.max_queued_spans) {
      const bool first = queue_.empty();
      for (Span& span : spans) queue_.push_back({std::move(span), now});
      parts_.counters.QueueIs(static_cast<int64_t>(queue_.size() + sending_));
      if (first || queue_.size() >= options_.batch_spans) changed_.Signal();
      return true;
    }
  }
  parts_.counters.Dropped(cause, count);
  return false;
}

void SpanExporter::Stop(Duration patience) {
  {
    absl::MutexLock lock(&mutex_);
    if (!stop_at_) stop_at_ = parts_.clock.Now() + patience;
  }
  changed_.SignalAll();
  if (thread_.joinable()) thread_.join();
}

void SpanExporter::Run() {
  for (;;) {
    const std::vector<Span> batch = NextBatch();
    if (batch.empty()) return;
    Deliver(batch);
    absl::MutexLock lock(&mutex_);
    sending_ = 0;
    parts_.counters.QueueIs(static_cast<int64_t>(queue_.size()));
  }
}

std::vector<Span> SpanExporter::NextBatch() {
  absl::MutexLock lock(&mutex_);
  while (!stop_at_ && queue_.size() < options_.batch_spans) {
    Duration left = kLongestWait;
    if (!queue_.empty()) left = queue_.front().since + options_.batch_delay - parts_.clock.Now();
    if (left <= Duration(0)) break;
    changed_.WaitWithTimeout(&mutex_, WaitOf(left));
  }
  sending_ = std::min(queue_.size(), options_.batch_spans);
  std::vector<Span> batch;
  batch.reserve(sending_);
  for (size_t i = 0; i < sending_; ++i) {
    batch.push_back(std::move(queue_.front().span));
    queue_.pop_front();
  }
  return batch;
}

void SpanExporter::Deliver(const std::vector<Span>& batch) {
  const std::string bytes = EncodeSpans(parts_.source, batch);
  const auto count = static_cast<int64_t>(batch.size());
  const TimePoint give_up_at = parts_.clock.Now() + options_.keep_trying;
  const auto is_over = [this] {
    absl::MutexLock lock(&mutex_);
    return stop_at_ && parts_.clock.Now() >= *stop_at_;
  };
  SendPauses pauses(options_.first_pause, options_.longest_pause);
  for (;;) {
    SendResult result = parts_.sender->Send(bytes, options_.send_timeout, is_over);
    if (result.what == SendResult::What::kTaken) {
      const int64_t rejected = std::clamp<int64_t>(result.rejected_spans, 0, count);
      parts_.counters.Exported(count - rejected);
      if (rejected > 0) parts_.counters.Dropped(SpanDrop::kRefused, rejected);
      if (rejected > 0) return Ill(result);
      return Well();
    }
    parts_.counters.SendFailed();
    Ill(result);
    if (result.what == SendResult::What::kRefused) {
      return parts_.counters.Dropped(SpanDrop::kRefused, count);
    }
    const Duration pause = pauses.Next(result.retry_after, parts_.random());
    if (parts_.clock.Now() + pause >= give_up_at) {
      return parts_.counters.Dropped(SpanDrop::kUnreachable, count);
    }
    if (Pause(pause)) continue;
    parts_.counters.Dropped(SpanDrop::kShutdown, count);
    absl::MutexLock lock(&mutex_);
    return DropAll();
  }
}

bool SpanExporter::Pause(Duration pause) {
  const TimePoint until = parts_.clock.Now() + pause;
  absl::MutexLock lock(&mutex_);
  while (!stop_at_) {
    const Duration left = until - parts_.clock.Now();
    if (left <= Duration(0)) return true;
    changed_.WaitWithTimeout(&mutex_, WaitOf(left));
  }
  return false;
}

void SpanExporter::DropAll() {
  if (queue_.empty()) return;
  parts_.counters.Dropped(SpanDrop::kShutdown, static_cast<int64_t>(queue_.size()));
  queue_.clear();
}

void SpanExporter::Well() {
  if (std::exchange(ill_, false)) spdlog::info("traces: the collector takes spans again");
}

void SpanExporter::Ill(const SendResult& result) {
  ill_ = true;
  if (const auto unsaid = failures_.Say(parts_.clock.Now())) {
    spdlog::warn("traces: {}{}", result.why.empty() ? "the collector refused spans" : result.why,
                 *unsaid);
  }
}

}  // namespace sheaf
