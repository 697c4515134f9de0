#pragma once
// The flags of `sheaf attention`.

#include "absl/status/status.h"
#include "cli/options/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` are written when `app` parses, and must live until then.
void AddAttentionFlags(CLI::App& app, AttentionOptions& options);

// After parsing: flags that do not go together.
absl::Status FinishAttention(const AttentionOptions& options);

}  // namespace sheaf
