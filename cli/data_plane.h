#pragma once
// The transport that --transport names, built.
//
// Errors     kInternal with UCX's words.

#include <memory>

#include "absl/status/statusor.h"
#include "cli/options.h"
#include "exchange/transport.h"

namespace sheaf {

// Not for kInProcess, which needs no processes.
absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(TransportKind kind);

}  // namespace sheaf
