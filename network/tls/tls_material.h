#pragma once
// TlsMaterial: the contents of a certificate file, its key's and a file of CAs, read together and
// found to fit.
//
// Files      PEM. Certificate: the own one, then its intermediates. CAs: one or more.
// Errors     kInvalidArgument naming the file: it cannot be read, is not PEM, the key is not the
//            certificate's, or it has expired.
// Threads    immutable once made.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

typedef struct x509_store_st X509_STORE;

namespace sheaf {

struct TlsFiles {
  std::string cert;
  std::string key;
  std::string ca;  // of the other end's certificates; empty: none is wanted of it
};

struct TlsMaterial {
  std::string cert_pem;
  std::string key_pem;
  std::string ca_pem;                      // empty: no CAs
  std::shared_ptr<X509_STORE> roots;       // null: no CAs
  int64_t expires_unix_seconds = 0;        // of the own certificate
  bool operator==(const TlsMaterial& other) const {
    return cert_pem == other.cert_pem && key_pem == other.key_pem && ca_pem == other.ca_pem;
  }
};

absl::StatusOr<std::shared_ptr<const TlsMaterial>> ReadTlsMaterial(const TlsFiles& files,
                                                                   int64_t now_unix_seconds);
// Of somebody who dials: without certificate and key where neither file is named; without a file of
// CAs they are the system's.
absl::StatusOr<std::shared_ptr<const TlsMaterial>> ReadDialerMaterial(const TlsFiles& files,
                                                                      int64_t now_unix_seconds);

}  // namespace sheaf
