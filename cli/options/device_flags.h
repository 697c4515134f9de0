#pragma once
// The flags that say where experts are computed: "cpu" or "cuda:N", the N-th GPU that CUDA shows.

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/options/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// `options` are written when `app` parses, and must live until then.
// --device
void AddDeviceFlag(CLI::App& app, WorkerOptions& options);
// --worker-device, one for each worker that is started here, in turn
void AddWorkerDeviceFlag(CLI::App& app, RouterOptions& options);
// All of `sheaf devices`.
void AddDevicesFlags(CLI::App& app, DevicesOptions& options);

// The GPU's number; nothing: the CPU. kInvalidArgument naming the flag: anything else.
absl::StatusOr<std::optional<int>> ParseDevice(const std::string& flag, const std::string& text);

// After parsing.
absl::Status CheckWorkerDevices(const RouterOptions& options);

}  // namespace sheaf
