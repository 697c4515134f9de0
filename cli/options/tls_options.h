#pragma once
// The flags of TLS: for clients (--tls-*), between our own processes (--cluster-*) and for /metrics
// (--metrics-tls). Of a command that is a client itself: cli/options/client_flags.h,
// cli/options/client_tls.h.
//
// Errors     Check*: kInvalidArgument naming the flag that is missing; Open*: also what is wrong
//            with a file.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "network/tls/tls_identity.h"

namespace CLI {
class App;
}

namespace sheaf {

// Of the listeners that clients reach. Empty: plaintext.
struct ClientTlsOptions {
  std::string cert;       // PEM, the own certificate first
  std::string key;        // PEM, no passphrase
  std::string client_ca;  // PEM; clients must have a certificate of it; empty: none is wanted
};

// Between coordinator, routers and workers, both ends. Empty: plaintext.
struct ClusterTlsOptions {
  std::string cert;
  std::string key;
  std::string ca;                          // of the other end's certificate
  std::vector<std::string> allowed_names;  // as AllowedNames::Parse; the other end has one of them
};

// Of a worker's or a coordinator's /metrics and probes.
struct MetricsTlsOptions {
  bool on = false;        // with the certificate of --cluster-tls-cert
  std::string client_ca;  // PEM; who reads must have a certificate of it; empty: none is wanted
};

// Of a client, towards a running process.
struct DialTlsOptions {
  bool on = false;          // any of the others means it too
  std::string ca;           // PEM; empty: the system's
  std::string cert;         // PEM, to be shown if the server wants one; empty: none
  std::string key;          // of it
  std::string server_name;  // DNS name, address or SPIFFE id; empty: the host that is dialled
  bool wanted() const {
    return on || !ca.empty() || !cert.empty() || !key.empty() || !server_name.empty();
  }
};

void AddClientTlsFlags(CLI::App& app, ClientTlsOptions& options);
void AddClusterTlsFlags(CLI::App& app, ClusterTlsOptions& options);

void AddMetricsTlsFlags(CLI::App& app, MetricsTlsOptions& options);

absl::Status CheckClientTls(const ClientTlsOptions& options);
absl::Status CheckClusterTls(const ClusterTlsOptions& options);
absl::Status CheckMetricsTls(const MetricsTlsOptions& options, const ClusterTlsOptions& cluster);

// As a child of this process is to be told.
std::vector<std::string> FlagsOf(const ClusterTlsOptions& options);

// Null: plaintext.
absl::StatusOr<std::shared_ptr<TlsIdentity>> OpenClientTls(const ClientTlsOptions& options,
                                                           std::shared_ptr<TlsReport> report);
absl::StatusOr<std::shared_ptr<TlsIdentity>> OpenClusterTls(const ClusterTlsOptions& options,
                                                            std::shared_ptr<TlsReport> report);
absl::StatusOr<std::shared_ptr<TlsIdentity>> OpenMetricsTls(const MetricsTlsOptions& options,
                                                            const ClusterTlsOptions& cluster,
                                                            std::shared_ptr<TlsReport> report);

// One warning that says what anybody who reaches `host` may do, where that is more than this
// machine and nothing protects it. `what`: e.g. "may ask and read answers in plaintext".
void WarnIfExposed(const std::string& face, const std::string& host, bool protected_by_tls,
                   const std::string& what);

}  // namespace sheaf
