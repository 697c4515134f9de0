#pragma once
// The flags of the commands that ask a running router.

#include "cli/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` are written when `app` parses, and must live until then.
void AddAskFlags(CLI::App& app, AskOptions& options);
void AddChatFlags(CLI::App& app, ChatOptions& options);

}  // namespace sheaf
