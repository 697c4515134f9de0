#pragma once
// The flags of `sheaf worker`.

#include <string>

#include "absl/status/status.h"
#include "cli/options/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` and `exchange_ports` are written when `app` parses, and must live until then.
void AddWorkerFlags(CLI::App& app, WorkerOptions& options, std::string& exchange_ports);

// After parsing: what needs a conversion, and flags that do not go together.
absl::Status FinishWorker(WorkerOptions& options, const std::string& exchange_ports);

}  // namespace sheaf
