// Batches, failures, bounds and the end, with a collector that does what the test says.
#include "tracing/span_exporter.h"

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "sheaf/otlp/v1/trace.pb.h"
#include "tracing/send_pauses.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using What = SendResult::What;

constexpr absl::Duration kPatience = absl::Seconds(20);

// Answers in order, then takes everything. It can be made to hang.
class FakeSender final : public SpanSender {
 public:
  struct State {
    absl::Mutex mutex;
    std::deque<SendResult> answers ABSL_GUARDED_BY(mutex);
    std::vector<int> batches ABSL_GUARDED_BY(mutex);  // spans of each try
    bool hangs ABSL_GUARDED_BY(mutex) = false;
  };
  explicit FakeSender(std::shared_ptr<State> state) : state_(std::move(state)) {}

  SendResult Send(const std::string& bytes, Duration,
                  const std::function<bool()>& give_up) override {
    otlp::v1::ExportTraceServiceRequest request;
    EXPECT_TRUE(request.ParseFromString(bytes));
    absl::MutexLock lock(&state_->mutex);
    state_->batches.push_back(request.resource_spans(0).scope_spans(0).spans_size());
    while (state_->hangs) {
      const auto moves = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mutex) {
        return !state_->hangs;
      };
      state_->mutex.AwaitWithTimeout(absl::Condition(&moves), absl::Milliseconds(5));
      if (state_->hangs && give_up()) return {What::kTryLater, "given up"};
    }
    if (state_->answers.empty()) return {};
    SendResult result = state_->answers.front();
    state_->answers.pop_front();
    return result;
  }

 private:
  const std::shared_ptr<State> state_;
};

class SpanExporterTest : public testing::Test {
 protected:
  SpanExporter& Start(SpanExporterOptions options) {
    exporter_ = std::make_unique<SpanExporter>(
        options, SpanExporter::Parts{std::make_unique<FakeSender>(state_), {}, counters_, clock_,
                                     [] { return uint64_t{0}; }});
    return *exporter_;
  }
  // Quick to send and to try again.
  static SpanExporterOptions Quick() {
    return {.batch_delay = milliseconds(1),
            .first_pause = milliseconds(2),
            .longest_pause = milliseconds(4)};
  }
  void Answer(SendResult result) {
    absl::MutexLock lock(&state_->mutex);
    state_->answers.push_back(std::move(result));
  }
  void SetHangs(bool hangs) {
    absl::MutexLock lock(&state_->mutex);
    state_->hangs = hangs;
  }
  bool WaitForTries(size_t tries) {
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mutex) {
      return state_->batches.size() >= tries;
    };
    absl::MutexLock lock(&state_->mutex);
    return state_->mutex.AwaitWithTimeout(absl::Condition(&enough), kPatience);
  }
  std::vector<int> Tries() {
    absl::MutexLock lock(&state_->mutex);
    return state_->batches;
  }
  double Figure(const std::string& name, const std::string& cause = "") {
    for (const auto& family : registry_.Collect()) {
      if (family.name != name) continue;
      for (const auto& metric : family.metric) {
        if (!cause.empty() && metric.label.at(0).value != cause) continue;
        return family.type == prometheus::MetricType::Gauge ? metric.gauge.value
                                                            : metric.counter.value;
      }
    }
    ADD_FAILURE() << "no figure " << name << " " << cause;
    return -1;
  }
  double Exported() { return Figure("sheaf_trace_spans_exported_total"); }
  double Dropped(const char* cause) { return Figure("sheaf_trace_spans_dropped_total", cause); }
  double Failed() { return Figure("sheaf_trace_failed_sends_total"); }

  static std::vector<Span> Spans(size_t count) { return std::vector<Span>(count); }

  SteadyClock clock_;
  prometheus::Registry registry_;
  SpanCounters counters_{registry_};
  const std::shared_ptr<FakeSender::State> state_ = std::make_shared<FakeSender::State>();
  std::unique_ptr<SpanExporter> exporter_;
};

TEST_F(SpanExporterTest, SpansGoInBatches) {
  SpanExporterOptions options = Quick();
  options.batch_spans = 4;
  options.batch_delay = std::chrono::hours(1);
  SpanExporter& exporter = Start(options);
  EXPECT_TRUE(exporter.Add(Spans(3)));
  EXPECT_TRUE(exporter.Add(Spans(3)));
  ASSERT_TRUE(WaitForTries(1)) << "a full batch waits for nothing";
  EXPECT_EQ(Tries(), std::vector<int>{4});
  exporter.Stop(seconds(10));
  EXPECT_EQ(Tries(), (std::vector<int>{4, 2})) << "the rest at the end";
  EXPECT_EQ(Exported(), 6);
  EXPECT_EQ(Figure("sheaf_trace_spans_queued"), 0);
}

TEST_F(SpanExporterTest, AFewSpansGoAfterADelay) {
  SpanExporter& exporter = Start(Quick());
  exporter.Add(Spans(1));
  EXPECT_TRUE(WaitForTries(1));
}

TEST_F(SpanExporterTest, ABatchIsTriedAgain) {
  Answer({What::kTryLater, "away"});
  Answer({What::kTryLater, "full", milliseconds(1)});
  SpanExporter& exporter = Start(Quick());
  exporter.Add(Spans(5));
  ASSERT_TRUE(WaitForTries(3));
  exporter.Stop(seconds(10));
  EXPECT_EQ(Tries(), (std::vector<int>{5, 5, 5}));
  EXPECT_EQ(Exported(), 5);
  EXPECT_EQ(Failed(), 2);
  EXPECT_EQ(Dropped("unreachable"), 0);
}

TEST_F(SpanExporterTest, WhatIsRefusedIsNotTriedAgain) {
  Answer({What::kRefused, "HTTP status 400"});
  Answer({What::kTaken, "too old", std::nullopt, 2});
  SpanExporter& exporter = Start(Quick());
  exporter.Add(Spans(3));
  ASSERT_TRUE(WaitForTries(1));
  exporter.Add(Spans(7));
  exporter.Stop(seconds(10));
  EXPECT_EQ(Tries(), (std::vector<int>{3, 7}));
  EXPECT_EQ(Exported(), 5);
  EXPECT_EQ(Dropped("refused"), 3 + 2);
}

TEST_F(SpanExporterTest, ABatchIsGivenUpAfterAWhile) {
  for (int i = 0; i < 1000; ++i) Answer({What::kTryLater, "away"});
  SpanExporterOptions options = Quick();
  options.keep_trying = milliseconds(20);
  SpanExporter& exporter = Start(options);
  exporter.Add(Spans(2));
  ASSERT_TRUE(WaitForTries(2));
  const absl::Time deadline = absl::Now() + kPatience;
  while (Dropped("unreachable") == 0 && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(Dropped("unreachable"), 2);
  EXPECT_EQ(Exported(), 0);
}

TEST_F(SpanExporterTest, TheQueueIsBoundedWhileACollectorHangs) {
  SetHangs(true);
  SpanExporterOptions options = Quick();
  options.max_queued_spans = 10;
  options.batch_spans = 4;
  SpanExporter& exporter = Start(options);
  EXPECT_TRUE(exporter.Add(Spans(4)));
  ASSERT_TRUE(WaitForTries(1));
  EXPECT_TRUE(exporter.Add(Spans(5)));
  EXPECT_FALSE(exporter.Add(Spans(2))) << "the batch that is being sent counts";
  EXPECT_TRUE(exporter.Add(Spans(1)));
  EXPECT_EQ(Dropped("queue_full"), 2);
  EXPECT_EQ(Figure("sheaf_trace_spans_queued"), 10);
  SetHangs(false);
  exporter.Stop(seconds(10));
  EXPECT_EQ(Exported(), 10);
}

TEST_F(SpanExporterTest, TheEndWaitsForNobodyLong) {
  SetHangs(true);
  SpanExporterOptions options = Quick();
  options.batch_spans = 4;
  SpanExporter& exporter = Start(options);
  exporter.Add(Spans(9));
  ASSERT_TRUE(WaitForTries(1));
  const TimePoint begin = clock_.Now();
  exporter.Stop(milliseconds(30));
  EXPECT_LT(clock_.Now() - begin, seconds(10));
  EXPECT_EQ(Dropped("shutdown"), 9);
  EXPECT_EQ(Tries().size(), 1u);
  EXPECT_FALSE(exporter.Add(Spans(1)));
  EXPECT_EQ(Dropped("shutdown"), 10);
}

TEST(SendPausesTest, PausesDoubleUpToTheLongest) {
  SendPauses pauses(milliseconds(100), milliseconds(350));
  EXPECT_EQ(pauses.Next(std::nullopt, 0), milliseconds(50));
  EXPECT_EQ(pauses.Next(std::nullopt, 0), milliseconds(100));
  EXPECT_EQ(pauses.Next(std::nullopt, 0), milliseconds(175));
  EXPECT_EQ(pauses.Next(std::nullopt, 0), milliseconds(175));
  const Duration random = pauses.Next(std::nullopt, 1023);
  EXPECT_GT(random, milliseconds(345));
  EXPECT_LT(random, milliseconds(350));
  EXPECT_EQ(pauses.Next(milliseconds(300), 0), milliseconds(300)) << "as it is asked";
  EXPECT_EQ(pauses.Next(seconds(300), 0), milliseconds(350)) << "within bounds";
}

}  // namespace
}  // namespace sheaf
