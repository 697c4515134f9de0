#pragma once
// The flags of the commands that read a checkpoint and serve nothing.

#include "cli/options/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` are written when `app` parses, and must live until then.
void AddInspectFlags(CLI::App& app, InspectOptions& options);
void AddVerifyFlags(CLI::App& app, VerifyOptions& options);
void AddRepackFlags(CLI::App& app, RepackOptions& options);

}  // namespace sheaf
