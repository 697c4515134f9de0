#include "cli/options/trace_options.h"

#include <CLI/CLI.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/one_line.h"

namespace sheaf {
namespace {

constexpr char kEndpoint[] = "OTEL_EXPORTER_OTLP_ENDPOINT";
constexpr char kProtocol[] = "OTEL_EXPORTER_OTLP_PROTOCOL";
constexpr char kRatio[] = "OTEL_TRACES_SAMPLER_ARG";
constexpr char kServiceName[] = "OTEL_SERVICE_NAME";

void ReadEndpoint(const std::string& url, const std::string& protocol, TraceSettings& settings) {
  if (!protocol.empty() && protocol != "http/protobuf") {
    settings.remarks.push_back(absl::StrFormat("%s: wanted http/protobuf, got \"%s\": no traces",
                                               kProtocol, OneLine(protocol)));
    return;
  }
  absl::StatusOr<OtlpEndpoint> endpoint = ParseOtlpEndpoint(url);
  if (endpoint.ok()) {
    settings.endpoint = *std::move(endpoint);
  } else {
    settings.remarks.push_back(
        absl::StrFormat("%s: %s: no traces", kEndpoint, endpoint.status().message()));
  }
}

void ReadRatio(const std::string& text, TraceSettings& settings) {
  double ratio = 0;
  if (absl::SimpleAtod(text, &ratio) && ratio >= 0 && ratio <= 1) {
    settings.sample_ratio = ratio;
  } else {
    settings.remarks.push_back(
        absl::StrFormat("%s: wanted a number from 0 to 1, got \"%s\": %g is used", kRatio,
                        OneLine(text), settings.sample_ratio));
  }
}

}  // namespace

void AddTraceFlags(CLI::App& app, TraceOptions& options) {
  // Not bound to the optionals themselves: an empty URL is a value.
  app.add_option_function<std::string>(
      "--otlp-endpoint", [&options](const std::string& url) { options.otlp_endpoint = url; },
      "Collector that takes traces by OTLP/HTTP (protobuf), e.g. http://127.0.0.1:4318; "
      "/v1/traces is appended. \"\" = no traces. Default: OTEL_EXPORTER_OTLP_ENDPOINT, else none");
  app.add_option_function<double>(
         "--trace-sample-ratio", [&options](double ratio) { options.sample_ratio = ratio; },
         "Share of requests without a trace of their client's that begin one, 0 to 1; a client's "
         "own traceparent decides for itself. Default: OTEL_TRACES_SAMPLER_ARG, else 0.01")
      ->check(CLI::Range(0.0, 1.0));
}

absl::StatusOr<TraceSettings> SettingsOf(
    const TraceOptions& options, const std::function<const char*(const char*)>& environment) {
  const auto variable = [&](const char* name) {
    const char* const value = environment(name);
    return std::string(value == nullptr ? "" : value);
  };
  TraceSettings settings;
  if (options.otlp_endpoint) {
    if (!options.otlp_endpoint->empty()) {
      absl::StatusOr<OtlpEndpoint> endpoint = ParseOtlpEndpoint(*options.otlp_endpoint);
      if (!endpoint.ok()) {
        return absl::InvalidArgumentError(
            absl::StrFormat("--otlp-endpoint: %s", endpoint.status().message()));
      }
      settings.endpoint = *std::move(endpoint);
    }
  } else if (const std::string url = variable(kEndpoint); !url.empty()) {
    ReadEndpoint(url, variable(kProtocol), settings);
  }
  if (!settings.endpoint) return settings;
  if (options.sample_ratio) {
    settings.sample_ratio = *options.sample_ratio;
  } else if (const std::string ratio = variable(kRatio); !ratio.empty()) {
    ReadRatio(ratio, settings);
  }
  if (const std::string name = variable(kServiceName); !name.empty()) settings.service_name = name;
  return settings;
}

}  // namespace sheaf
