// What a request's end costs with traces: one that is not kept, and one that is, after phases of
// many steps and workers.
#include <benchmark/benchmark.h>

#include <memory>

#include "cli/router/request_tracer.h"
#include "prometheus/registry.h"

namespace sheaf {
namespace {

class NoLog final : public RequestLog {
 public:
  void Ended(const EndedRequest&) override {}
};

class NoSender final : public SpanSender {
 public:
  SendResult Send(const std::string&, Duration, const std::function<bool()>&) override {
    return {};
  }
};

// `ratio` of the requests, after as many steps of 10 ms as are remembered, of so many workers.
void Ended(benchmark::State& state, double ratio) {
  NoLog log;
  SteadyClock clock;
  prometheus::Registry registry;
  SpanCounters counters(registry);
  DispatchHistory history;
  std::vector<WorkerDispatches> workers;
  for (int i = 0; i < state.range(0); ++i) workers.push_back({WorkerId(i), 45, 360, 0.1, 0.01});
  const TimePoint now = clock.Now();
  const auto steps = static_cast<int>(DispatchHistory::kSteps);
  for (int i = steps; i > 0; --i) {
    const TimePoint begin = now - std::chrono::milliseconds(10 * i);
    history.Add(begin, begin + std::chrono::milliseconds(10), workers);
  }
  uint64_t random = 1;
  const auto next = [&random] { return random = random * 6364136223846793005u + 1; };
  SpanExporter exporter({.batch_delay = std::chrono::milliseconds(1)},
                        {std::make_unique<NoSender>(), {}, counters, clock, [] { return 0u; }});
  RequestTracer tracer(ratio, {.next = log,
                               .exporter = exporter,
                               .dispatches = history,
                               .clock = clock,
                               .unix_nanos = [] { return int64_t{1} << 60; },
                               .random = next,
                               .model = "glm"});
  const std::vector<FinishReason> reasons = {FinishReason::kStop};
  const EndedRequest request{.id = "chatcmpl-3f2a9c0b77e1d548",
                             .fairness_key = "key:team-7",
                             .choices = 1,
                             .prompt_tokens = 1834,
                             .output_tokens = 4000,
                             .queued = std::chrono::microseconds(1234),
                             .first_token = std::chrono::milliseconds(250),
                             .total = std::chrono::seconds(41),
                             .chat = true,
                             .asked = AskedGeneration{},
                             .submitted = std::chrono::milliseconds(2),
                             .finish_reasons = reasons};
  for (auto _ : state) tracer.Ended(request);
}
BENCHMARK_CAPTURE(Ended, not_kept, 0.0)->ArgName("workers")->Arg(4);
BENCHMARK_CAPTURE(Ended, kept, 1.0)->ArgName("workers")->Arg(0)->Arg(4)->Arg(16);

// What each step pays.
void Step(benchmark::State& state) {
  DispatchHistory history;
  const std::vector<WorkerDispatches> workers(static_cast<size_t>(state.range(0)));
  for (auto _ : state) history.Add({}, {}, workers);
}
BENCHMARK(Step)->ArgName("workers")->Arg(4)->Arg(16);

}  // namespace
}  // namespace sheaf

BENCHMARK_MAIN();
