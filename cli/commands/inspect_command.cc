// `sheaf inspect`: what a checkpoint holds; status 1 when `sheaf serve` would refuse it.

#include <algorithm>
#include <cstdio>
#include <string>

#include "cli/commands/commands.h"
#include "cli/commands/inspect_parsers.h"
#include "cli/commands/rank_memory.h"
#include "cli/commands/step_times.h"
#include "cli/process/preflight.h"
#include "cli/process/process_setup.h"

namespace sheaf {

int RunInspect(const InspectOptions& options) {
  RouterOptions serving;
  serving.process.checkpoint = options.checkpoint;
  serving.pool.workers = options.workers;
  serving.lm_head = options.lm_head;
  const Preflight preflight = RunPreflight(serving, nullptr);
  const InspectReport& report = preflight.report;
  const ChatTemplate* const chat_template =
      preflight.text == nullptr ? nullptr : preflight.text->chat_template();
  std::string text;
  if (options.json) {
    text = WithParsersJson(InspectJson(report), chat_template);
  } else {
    text = InspectText(report);
    if (preflight.text != nullptr) text += ParsersText(chat_template);
  }
  const bool ranks_asked = options.tensor_parallel_size > 0 || options.max_model_len > 0 ||
                           options.device_memory_bytes > 0;
  if (ranks_asked && report.refusal.empty()) {
    InspectOptions asked = options;
    asked.tensor_parallel_size = std::max(1, options.tensor_parallel_size);
    const auto plan =
        PlanRankMemory(asked, *preflight.checkpoint, *preflight.config, report);
    if (!plan.ok()) return Fail(plan.status());
    text = options.json ? WithRanksJson(text, *plan) : text + RankMemoryText(*plan);
  }
  if (options.memory_bandwidth > 0 && report.refusal.empty()) {
    const auto times = PredictStepTimes(options, *preflight.checkpoint, *preflight.config, report);
    if (!times.ok()) return Fail(times.status());
    text = options.json ? WithStepTimesJson(text, *times) : text + StepTimesText(*times);
  }
  std::fputs(text.c_str(), stdout);
  if (report.refusal.empty()) return 0;
  return Fail(absl::InvalidArgumentError(report.refusal));
}

}  // namespace sheaf
