#pragma once
// The flags that every process of a server has.

#include "cli/options/process_options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` are written when `app` parses, and must live until then.
void AddProcessFlags(CLI::App& app, ProcessOptions& options);
// --numa-node, of processes that may be bound to one.
void AddNumaNodeFlag(CLI::App& app, ProcessOptions& options);
// --config, for --help alone: ExpandConfig has taken the flag before parsing.
void AddConfigFlag(CLI::App& app);

}  // namespace sheaf
