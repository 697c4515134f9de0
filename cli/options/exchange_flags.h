#pragma once
// The flags of the way that activations take between routers and workers.

#include <string>

#include "absl/status/status.h"
#include "cli/options/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` and what else is handed over are written when `app` parses, and must live until then.
// --exchange-integrity, the same on both sides.
void AddIntegrityFlag(CLI::App& app, FrameIntegrity& integrity);
// --exchange-wait, of a router or a worker.
void AddWaitFlag(CLI::App& app, WaitKind& wait);
// --transport; a worker of its own process cannot be a thread of the router.
void AddRouterTransportFlag(CLI::App& app, TransportKind& transport);
void AddWorkerTransportFlag(CLI::App& app, TransportKind& transport);

// Of --exchange-ports: "7000-7099" or "7000"; empty leaves both as they are. kInvalidArgument:
// anything else.
absl::Status ReadPorts(const std::string& text, int& first, int& last);

}  // namespace sheaf
