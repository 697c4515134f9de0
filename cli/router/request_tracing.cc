#include "cli/router/request_tracing.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "cli/process/process_identity.h"
#include "tracing/otlp_http_sender.h"

namespace sheaf {
namespace {

int64_t UnixNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

SpanSource SourceOf(const TraceSettings& settings) {
  const std::string host = HostName();
  const int64_t pid = getpid();
  return {.resource = {{"service.name", settings.service_name},
                       {"service.version", std::string(SHEAF_VERSION)},
                       {"service.instance.id", absl::StrCat(host, ":", pid)},
                       {"host.name", host},
                       {"process.pid", pid}},
          .library = "sheaf",
          .library_version = SHEAF_VERSION};
}

}  // namespace

RequestTracing::RequestTracing(const Parts& parts) : next_(parts.next), counters_(parts.registry) {
  if (!parts.settings.endpoint) return;
  const OtlpEndpoint& endpoint = *parts.settings.endpoint;
  spdlog::info("traces go to {}: {} of the requests, and those whose client keeps theirs",
               endpoint.url(), parts.settings.sample_ratio);
  dispatches_ = std::make_unique<DispatchHistory>();
  exporter_ = std::make_unique<SpanExporter>(
      SpanExporterOptions{},
      SpanExporter::Parts{.sender = MakeOtlpHttpSender(endpoint, "sheaf/" SHEAF_VERSION),
                          .source = SourceOf(parts.settings),
                          .counters = counters_,
                          .clock = parts.clock,
                          .random = parts.random});
  tracer_ = std::make_unique<RequestTracer>(
      parts.settings.sample_ratio, RequestTracer::Parts{.next = next_,
                                                        .exporter = *exporter_,
                                                        .dispatches = *dispatches_,
                                                        .clock = parts.clock,
                                                        .unix_nanos = UnixNanos,
                                                        .random = parts.random,
                                                        .model = parts.model});
}

void RequestTracing::Stop(Duration patience) {
  if (exporter_) exporter_->Stop(patience);
}

}  // namespace sheaf
