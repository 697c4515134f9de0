// `sheaf inspect`: what a checkpoint holds; status 1 when it cannot be served.

#include <cstdio>

#include "cli/commands.h"
#include "model/inspect.h"

namespace sheaf {

int RunInspect(const InspectOptions& options) {
  const InspectReport report = InspectCheckpoint(options.checkpoint, options.workers);
  std::fputs((options.json ? InspectJson(report) : InspectText(report)).c_str(), stdout);
  if (report.refusal.empty()) return 0;
  std::fprintf(stderr, "sheaf: %s\n", report.refusal.c_str());
  return 1;
}

}  // namespace sheaf
