// `sheaf inspect`: what a checkpoint holds; status 1 when `sheaf serve` would refuse it.

#include <cstdio>
#include <string>

#include "cli/commands/commands.h"
#include "cli/commands/inspect_parsers.h"
#include "cli/process/preflight.h"
#include "cli/process/process_setup.h"

namespace sheaf {

int RunInspect(const InspectOptions& options) {
  RouterOptions serving;
  serving.process.checkpoint = options.checkpoint;
  serving.pool.workers = options.workers;
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
  std::fputs(text.c_str(), stdout);
  if (report.refusal.empty()) return 0;
  return Fail(absl::InvalidArgumentError(report.refusal));
}

}  // namespace sheaf
