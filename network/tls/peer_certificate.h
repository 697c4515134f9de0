#pragma once
// Whether the certificate of the other end is one that we talk to: of a CA of ours, valid now, for
// this use, and with a wanted name.
//
// Names      SPIFFE ids (spiffe://domain/path) among its URIs and DNS names, compared exactly (DNS
//            names without regard to case; no patterns). The common name counts for nothing.
// Host       of a server that was dialled by its name: a DNS name or IP address as a browser
//            compares it (*.example.org is every name one level below), or a SPIFFE id, exactly.
// Threads    pure. Cost: some hundred microseconds (signatures).

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "network/tls/allowed_names.h"
#include "network/tls/tls_material.h"
#include "network/tls/tls_report.h"

struct ssl_st;

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

// The same with texts of its own, of a handshake that has ended.
struct PeerPem {
  std::string leaf;
  std::string chain;
  explicit PeerPem(ssl_st& session);
  operator PeerCertificate() const { return {leaf, chain}; }  // NOLINT: it is one
};

struct PeerWish {
  PeerUse use = PeerUse::kClient;
  // it has one of them, a server as a coordinator; none: whatever its names
  AllowedNames allowed{};
  std::string host{};      // it has this one too; empty: none is wanted
};

// Nothing: welcome. Wants material.roots.
std::optional<PeerRefusal> RefusePeer(const PeerCertificate& peer, const TlsMaterial& material,
                                      const PeerWish& wish, int64_t now_unix_seconds);

// SPIFFE ids and DNS names of a certificate in PEM; empty for one that cannot be read.
std::vector<std::string> NamesOf(std::string_view leaf_pem);
// The first of them, for one line.
std::string DescribeNames(const std::vector<std::string>& names);

}  // namespace sheaf
