// What a line of the access log costs whoever ends a request: to format it, and with the log's
// sink.

#include <benchmark/benchmark.h>
#include <spdlog/spdlog.h>

#include "cli/process/access_log.h"
#include "cli/process/process_setup.h"

namespace sheaf {
namespace {

EndedRequest Request() {
  return {.face = RequestFace::kHttp,
          .outcome = RequestOutcome::kStop,
          .id = "chatcmpl-3f2a9c0b77e1d548",
          .fairness_key = "key:team-7",
          .choices = 1,
          .prompt_tokens = 1834,
          .cached_tokens = 1024,
          .output_tokens = 212,
          .text_bytes = 941,
          .queued = std::chrono::microseconds(1234),
          .first_token = std::chrono::milliseconds(250),
          .total = std::chrono::milliseconds(9042)};
}

void Format(benchmark::State& state) {
  const AccessLogFormat format{state.range(0) != 0, "glm"};
  const EndedRequest request = Request();
  for (auto _ : state) benchmark::DoNotOptimize(AccessLine(request, format));
}
BENCHMARK(Format)->ArgName("json")->Arg(0)->Arg(1);

// stderr should go to /dev/null.
void FormatAndHandOver(benchmark::State& state) {
  static const bool set_up = SetUpProcess({}).ok();
  if (!set_up) state.SkipWithError("the process cannot be set up");
  AccessLog log({false, "glm"}, true, nullptr);
  const EndedRequest request = Request();
  for (auto _ : state) log.Ended(request);
}
BENCHMARK(FormatAndHandOver);

}  // namespace
}  // namespace sheaf

BENCHMARK_MAIN();
