#include "cli/options/device_flags.h"

#include <CLI/CLI.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr const char* kCuda = "cuda:";

}  // namespace

void AddDeviceFlag(CLI::App& app, WorkerOptions& options) {
  app.add_option("--device", options.device,
                 "Where its experts lie and are computed: cpu, or cuda:N for the N-th GPU, whose "
                 "memory --memory-bytes then bounds; the same answers, byte for byte")
      ->capture_default_str();
}

void AddWorkerDeviceFlag(CLI::App& app, RouterOptions& options) {
  app.add_option(
         "--worker-device", options.worker_devices,
         "Where the experts of workers started here are computed: cpu or cuda:N; of several "
         "values each worker takes the next")
      ->delimiter(',')
      ->capture_default_str();
}

void AddDevicesFlags(CLI::App& app, DevicesOptions& options) {
  app.add_option("--nccl-library", options.nccl_library,
                 "Also whether this NCCL can be used: libnccl.so.2 is looked for as the loader "
                 "does, a name with a slash is a file; default: NCCL is not looked at");
  app.add_option("--timeout-ms", options.timeout_ms,
                 "Of making a communicator with it, milliseconds")
      ->check(CLI::Range(1, 600000))
      ->capture_default_str();
}

absl::StatusOr<std::optional<int>> ParseDevice(const std::string& flag, const std::string& text) {
  if (text == "cpu") return std::optional<int>();
  int ordinal = -1;
  if (absl::StartsWith(text, kCuda) &&
      absl::SimpleAtoi(text.substr(std::string(kCuda).size()), &ordinal) && ordinal >= 0 &&
      text == absl::StrFormat("%s%d", kCuda, ordinal)) {
    return std::optional<int>(ordinal);
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: wanted cpu or cuda:N, got \"%s\"", flag, text));
}

absl::Status CheckWorkerDevices(const RouterOptions& options) {
  for (const std::string& device : options.worker_devices) {
    SHEAF_ASSIGN_OR_RETURN(const std::optional<int> ordinal,
                           ParseDevice("--worker-device", device));
    if (!ordinal.has_value()) continue;
    if (options.activation_bits != kernels::ActivationBits::k16) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--activation-bits: wanted 16 with experts on a GPU, got 8 with --worker-device %s",
          device));
    }
    if (options.pool.workers == 0 || options.transport == TransportKind::kInProcess) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--worker-device: wanted workers that are processes, since a GPU belongs to one, got "
          "\"%s\" with %s",
          device, options.pool.workers == 0 ? "--workers 0" : "--transport inprocess"));
    }
  }
  return absl::OkStatus();
}

}  // namespace sheaf
