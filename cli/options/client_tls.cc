#include "cli/options/client_tls.h"

#include <grpc/support/log.h>

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/host_port.h"
#include "grpcpp/create_channel.h"
#include "network/tls/tls_probe.h"

namespace sheaf {
namespace {

constexpr std::chrono::seconds kProbePatience{2};

absl::Status At(const absl::Status& status, const std::string& address, absl::string_view text) {
  if (absl::StartsWith(text, address)) return absl::Status(status.code(), text);
  return absl::Status(status.code(), absl::StrFormat("%s: %s", address, text));
}

Speaks Probe(const std::string& address) {
  const auto split = SplitHostPort(address);
  return split.ok() ? ProbeTls(*split, kProbePatience) : Speaks::kUnknown;
}

}  // namespace

absl::StatusOr<std::shared_ptr<TlsDialer>> OpenDialer(const DialTlsOptions& options) {
  if (!options.wanted()) return nullptr;
  if (options.cert.empty() != options.key.empty()) {
    return absl::InvalidArgumentError(options.cert.empty()
                                          ? "--tls-cert: wanted with --tls-key, got none"
                                          : "--tls-key: wanted with --tls-cert, got none");
  }
  auto dialer = TlsDialer::Open({{options.cert, options.key, options.ca}, options.server_name});
  if (dialer.ok()) return dialer;
  return absl::Status(dialer.status().code(), absl::StrFormat("--tls-ca, --tls-cert, --tls-key: %s",
                                                              dialer.status().message()));
}

std::shared_ptr<grpc::Channel> DialGrpc(const std::string& address,
                                        const std::shared_ptr<TlsDialer>& dialer) {
  // What gRPC's own lines say of a failed handshake ExplainUnreached says in one.
  gpr_set_log_function([](gpr_log_func_args*) {});
  return dialer ? dialer->Dial(address)
                : grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
}

absl::Status ExplainUnreached(const absl::Status& status, const std::string& address,
                              const std::shared_ptr<TlsDialer>& dialer) {
  if (status.code() == absl::StatusCode::kUnavailable && dialer) {
    if (const std::string refusal = dialer->refusal(); !refusal.empty()) {
      return At(status, address, refusal);
    }
    if (!dialer->shows_certificate() && Probe(address) == Speaks::kTls) {
      return At(status, address,
                absl::StrFormat("%s (a server that wants certificates of its clients needs "
                                "--tls-cert and --tls-key)",
                                status.message()));
    }
  }
  return ExplainUnreached(status, address, dialer != nullptr, "--tls, --tls-ca");
}

absl::Status ExplainUnreached(const absl::Status& status, const std::string& address, bool with_tls,
                              const std::string& flags) {
  if (status.code() == absl::StatusCode::kUnavailable) {
    const Speaks speaks = Probe(address);
    if (speaks == Speaks::kTls && !with_tls) {
      return At(status, address,
                absl::StrFormat("it speaks TLS, and was asked in plaintext: wanted %s", flags));
    }
    if (speaks == Speaks::kPlaintext && with_tls) {
      return At(status, address,
                absl::StrFormat("it speaks plaintext, and TLS is wanted of it (%s)", flags));
    }
  }
  return At(status, address, status.message());
}

}  // namespace sheaf
