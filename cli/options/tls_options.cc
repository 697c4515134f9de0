#include "cli/options/tls_options.h"

#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

absl::Status Missing(const char* flag, const char* with) {
  return absl::InvalidArgumentError(absl::StrFormat("%s: wanted with %s, got none", flag, with));
}

absl::StatusOr<std::shared_ptr<TlsIdentity>> Open(TlsIdentityOptions options, const char* flags,
                                                  std::shared_ptr<TlsReport> report) {
  auto identity = TlsIdentity::Open(std::move(options), std::move(report));
  if (identity.ok()) return identity;
  return absl::Status(identity.status().code(),
                      absl::StrFormat("%s: %s", flags, identity.status().message()));
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host == "[::1]" ||
         absl::StartsWith(host, "127.");
}

absl::StatusOr<AllowedNames> AllowedNamesOf(const ClusterTlsOptions& options) {
  auto allowed = AllowedNames::Parse(options.allowed_names);
  if (allowed.ok()) return allowed;
  return absl::InvalidArgumentError(
      absl::StrFormat("--cluster-allowed-names: %s", allowed.status().message()));
}

}  // namespace

void AddClientTlsFlags(CLI::App& app, ClientTlsOptions& options) {
  app.add_option("--tls-cert", options.cert,
                 "Certificate for clients (PEM, then its intermediates); read again when it "
                 "changes. Default: plaintext");
  app.add_option("--tls-key", options.key, "Its private key (PEM, without a passphrase)");
  app.add_option("--tls-client-ca", options.client_ca,
                 "CAs (PEM) of which clients must have a certificate; default: none is wanted");
}

void AddClusterTlsFlags(CLI::App& app, ClusterTlsOptions& options) {
  app.add_option("--cluster-tls-cert", options.cert,
                 "Certificate of this process towards coordinator, routers and workers (PEM); read "
                 "again when it changes. Default: plaintext");
  app.add_option("--cluster-tls-key", options.key, "Its private key (PEM, without a passphrase)");
  app.add_option("--cluster-tls-ca", options.ca, "CAs (PEM) of their certificates");
  app.add_option("--cluster-allowed-names", options.allowed_names,
                 "SPIFFE ids or DNS names, of which the other end's certificate must have one, "
                 "each for every role or, as worker=NAME, router=NAME, coordinator=NAME or "
                 "admin=NAME, for that one, e.g. worker=spiffe://example.org/ns/sheaf/sa/worker; "
                 "several values")
      ->delimiter(',');
}

void AddMetricsTlsFlags(CLI::App& app, MetricsTlsOptions& options) {
  app.add_flag("--metrics-tls", options.on,
               "/metrics, /live and /ready over TLS, with the certificate of --cluster-tls-cert; "
               "default: plaintext, as scrapers and probes expect it");
  app.add_option("--metrics-tls-client-ca", options.client_ca,
                 "CAs (PEM) of which who reads them must have a certificate, probes too; default: "
                 "none is wanted");
}

absl::Status CheckClientTls(const ClientTlsOptions& options) {
  if (options.cert.empty() && options.key.empty() && options.client_ca.empty()) {
    return absl::OkStatus();
  }
  if (options.cert.empty()) return Missing("--tls-cert", "--tls-key and --tls-client-ca");
  if (options.key.empty()) return Missing("--tls-key", "--tls-cert");
  return absl::OkStatus();
}

absl::Status CheckClusterTls(const ClusterTlsOptions& options) {
  const char* const others = "the other --cluster-tls flags";
  if (options.cert.empty() && options.key.empty() && options.ca.empty() &&
      options.allowed_names.empty()) {
    return absl::OkStatus();
  }
  if (options.cert.empty()) return Missing("--cluster-tls-cert", others);
  if (options.key.empty()) return Missing("--cluster-tls-key", others);
  if (options.ca.empty()) return Missing("--cluster-tls-ca", others);
  if (options.allowed_names.empty()) return Missing("--cluster-allowed-names", others);
  return AllowedNamesOf(options).status();
}

absl::Status CheckMetricsTls(const MetricsTlsOptions& options, const ClusterTlsOptions& cluster) {
  if (!options.on && !options.client_ca.empty()) {
    return Missing("--metrics-tls", "--metrics-tls-client-ca");
  }
  if (options.on && cluster.cert.empty()) return Missing("--cluster-tls-cert", "--metrics-tls");
  return absl::OkStatus();
}

std::vector<std::string> FlagsOf(const ClusterTlsOptions& options) {
  if (options.cert.empty()) return {};
  std::vector<std::string> flags = {"--cluster-tls-cert", options.cert, "--cluster-tls-key",
                                    options.key, "--cluster-tls-ca", options.ca};
  for (const std::string& name : options.allowed_names) {
    flags.push_back("--cluster-allowed-names");
    flags.push_back(name);
  }
  return flags;
}

absl::StatusOr<std::shared_ptr<TlsIdentity>> OpenClientTls(const ClientTlsOptions& options,
                                                           std::shared_ptr<TlsReport> report) {
  if (options.cert.empty()) return nullptr;
  return Open({.listener = "clients",
               .files = {options.cert, options.key, options.client_ca},
               .allowed_names = {}},
              "--tls-cert, --tls-key, --tls-client-ca", std::move(report));
}

absl::StatusOr<std::shared_ptr<TlsIdentity>> OpenClusterTls(const ClusterTlsOptions& options,
                                                            std::shared_ptr<TlsReport> report) {
  if (options.cert.empty()) return nullptr;
  SHEAF_ASSIGN_OR_RETURN(AllowedNames allowed, AllowedNamesOf(options));
  return Open({.listener = "cluster",
               .files = {options.cert, options.key, options.ca},
               .allowed_names = std::move(allowed)},
              "--cluster-tls-cert, --cluster-tls-key, --cluster-tls-ca", std::move(report));
}

absl::StatusOr<std::shared_ptr<TlsIdentity>> OpenMetricsTls(const MetricsTlsOptions& options,
                                                            const ClusterTlsOptions& cluster,
                                                            std::shared_ptr<TlsReport> report) {
  if (!options.on) return nullptr;
  return Open({.listener = "metrics",
               .files = {cluster.cert, cluster.key, options.client_ca},
               .allowed_names = {}},
              "--metrics-tls, --cluster-tls-cert, --cluster-tls-key, --metrics-tls-client-ca",
              std::move(report));
}

void WarnIfExposed(const std::string& face, const std::string& host, bool protected_by_tls,
                   const std::string& what) {
  if (protected_by_tls || IsLoopback(host)) return;
  spdlog::warn("{} listens on {} without TLS: whoever reaches it {}; who listens on the way reads "
               "along",
               face, host, what);
}

}  // namespace sheaf
