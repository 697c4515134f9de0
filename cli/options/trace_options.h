#pragma once
// The flags of traces, and what the environment says where a flag is absent.
//
// Threads  pure: the environment comes in.
// Errors   of a flag: kInvalidArgument naming it. What the environment says wrongly only switches
//          traces off, or is left out, with a remark: it often comes from a platform, not from
//          whoever starts the server.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tracing/otlp_endpoint.h"

namespace CLI {
class App;
}

namespace sheaf {

struct TraceOptions {
  std::optional<std::string> otlp_endpoint;  // URL; empty: off; absent: OTEL_*
  std::optional<double> sample_ratio;        // of traces that begin here, in [0, 1]
};

struct TraceSettings {
  static constexpr double kDefaultSampleRatio = 0.01;

  std::optional<OtlpEndpoint> endpoint;  // nullopt: no traces
  double sample_ratio = kDefaultSampleRatio;
  std::string service_name = "sheaf-router";
  std::vector<std::string> remarks;  // for the log
};

void AddTraceFlags(CLI::App& app, TraceOptions& options);

// `environment`: a variable's value, null where it is not set (getenv). Reads
// OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_TRACES_SAMPLER_ARG and
// OTEL_SERVICE_NAME.
absl::StatusOr<TraceSettings> SettingsOf(
    const TraceOptions& options, const std::function<const char*(const char*)>& environment);

}  // namespace sheaf
