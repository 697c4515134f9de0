#pragma once
// Whether the certificate of the other end is one that we talk to: of a CA of ours, valid now, for
// this use, and with a name on the list.
//
// Names      SPIFFE ids (spiffe://domain/path) among its URIs and DNS names, compared exactly (DNS
//            names without regard to case; no patterns). The common name counts for nothing.
// Threads    pure. Cost: some hundred microseconds (signatures).

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "network/tls/tls_material.h"
#include "network/tls/tls_report.h"

namespace sheaf {

struct PeerCertificate {
  std::string_view leaf_pem;   // empty: it has none
  std::string_view chain_pem;  // what it sent with it
};

enum class PeerUse { kClient, kServer };

struct PeerRefusal {
  TlsRefusal cause;
  std::string peer;  // its names, or "no certificate"
  std::string what;
};

// Nothing: welcome. An empty list: every name is. Wants material.roots.
std::optional<PeerRefusal> RefusePeer(const PeerCertificate& peer, const TlsMaterial& material,
                                      PeerUse use, const std::vector<std::string>& allowed_names,
                                      int64_t now_unix_seconds);

// SPIFFE ids and DNS names of a certificate in PEM; empty for one that cannot be read.
std::vector<std::string> NamesOf(std::string_view leaf_pem);

}  // namespace sheaf
