#pragma once
// The flags of a pool: of who has its coordinator inside, of `sheaf coordinator` and of `sheaf
// pool`.

#include <string>

#include "absl/status/status.h"
#include "cli/options/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` are written when `app` parses, and must live until then.
void AddPoolFlags(CLI::App& app, PoolOptions& options, int fewest_workers);
void AddCoordinatorFlags(CLI::App& app, CoordinatorCommandOptions& options);
void AddPoolCommandFlags(CLI::App& app, PoolCommandOptions& options);
// --cluster-token-file
void AddTokenFlag(CLI::App& app, std::string& path);

// After parsing: flags that do not go together.
absl::Status FinishCoordinator(const CoordinatorCommandOptions& options);
absl::Status FinishPoolCommand(const PoolCommandOptions& options);

}  // namespace sheaf
