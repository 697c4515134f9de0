#pragma once
// The flags of the commands that ask a running process.

#include "cli/options/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` are written when `app` parses, and must live until then.
void AddAskFlags(CLI::App& app, AskOptions& options);
void AddChatFlags(CLI::App& app, ChatOptions& options);
void AddTopFlags(CLI::App& app, TopOptions& options);
// --tls and its kin, the same for all of them.
void AddDialTlsFlags(CLI::App& app, DialTlsOptions& options);

}  // namespace sheaf
