// `sheaf inspect`: what a checkpoint holds; status 1 when it cannot be served.

#include <cstdio>
#include <memory>
#include <string>

#include "cli/checkpoint_text.h"
#include "cli/commands.h"
#include "cli/inspect_parsers.h"
#include "model/inspect.h"

namespace sheaf {

int RunInspect(const InspectOptions& options) {
  InspectReport report = InspectCheckpoint(options.checkpoint, options.workers);
  const auto chat_template = LoadChatTemplate(options.checkpoint);
  // `sheaf serve` runs such a checkpoint for completions.
  if (!chat_template.ok()) report.disagreements.emplace_back(chat_template.status().message());
  const ChatTemplate* const usable = chat_template.ok() ? chat_template->get() : nullptr;
  std::string text;
  if (options.json) {
    text = WithParsersJson(InspectJson(report), usable);
  } else {
    text = InspectText(report);
    if (chat_template.ok() && report.tensors > 0) text += ParsersText(usable);
  }
  std::fputs(text.c_str(), stdout);
  if (report.refusal.empty()) return 0;
  std::fprintf(stderr, "sheaf: %s\n", report.refusal.c_str());
  return 1;
}

}  // namespace sheaf
