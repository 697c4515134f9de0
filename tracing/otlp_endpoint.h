#pragma once
// OtlpEndpoint: where a collector takes traces, from the URL that people write.
//
// http://host[:port][/path]; the port is 4318 where there is none, and /v1/traces is appended to a
// path that does not end with it, as OTEL_EXPORTER_OTLP_ENDPOINT wants it.
//
// Threads  pure.
// Errors   kInvalidArgument naming the URL: https (traces go in plaintext), another scheme,
//          a user, a query, no host, a wrong port.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sheaf {

struct OtlpEndpoint {
  std::string host;  // without brackets
  uint16_t port = 4318;
  std::string path;  // "/v1/traces"

  std::string url() const;
};

absl::StatusOr<OtlpEndpoint> ParseOtlpEndpoint(std::string_view url);

}  // namespace sheaf
