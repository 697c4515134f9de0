#include "network/tls/tls_material.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.good() && text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: cannot be read: %s", path, std::strerror(errno != 0 ? errno : EIO)));
  }
  return text;
}

Bio Reading(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
}

absl::Status Bad(const std::string& path, const char* wanted) {
  ERR_clear_error();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: wanted %s in PEM, got none", path, wanted));
}

int64_t EndOf(const X509& certificate) {
  std::tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &end) != 1) return 0;
  return static_cast<int64_t>(timegm(&end));
}

// A key with a passphrase is refused, not asked for on a terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::StatusOr<std::shared_ptr<X509_STORE>> Roots(const std::string& path, const std::string& pem) {
  std::shared_ptr<X509_STORE> store(X509_STORE_new(), &X509_STORE_free);
  const Bio bio = Reading(pem);
  int found = 0;
  for (;; ++found) {
    const Certificate ca(PEM_read_bio_X509(bio.get(), nullptr, &NoPassphrase, nullptr), &X509_free);
    if (!ca) break;
    if (X509_STORE_add_cert(store.get(), ca.get()) != 1) return Bad(path, "a CA certificate");
  }
  ERR_clear_error();
  if (found == 0) return Bad(path, "a CA certificate");
  return store;
}

absl::StatusOr<std::shared_ptr<TlsMaterial>> ReadOwn(const TlsFiles& files,
                                                     int64_t now_unix_seconds) {
  auto made = std::make_shared<TlsMaterial>();
  SHEAF_ASSIGN_OR_RETURN(made->cert_pem, ReadFile(files.cert));
  SHEAF_ASSIGN_OR_RETURN(made->key_pem, ReadFile(files.key));
  const Certificate own(
      PEM_read_bio_X509(Reading(made->cert_pem).get(), nullptr, &NoPassphrase, nullptr),
      &X509_free);
  if (!own) return Bad(files.cert, "a certificate");
  const Key key(
      PEM_read_bio_PrivateKey(Reading(made->key_pem).get(), nullptr, &NoPassphrase, nullptr),
      &EVP_PKEY_free);
  if (!key) return Bad(files.key, "a private key without a passphrase");
  if (X509_check_private_key(own.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: wanted the key of the certificate in %s, got another's", files.key,
                        files.cert));
  }
  made->expires_unix_seconds = EndOf(*own);
  if (made->expires_unix_seconds <= now_unix_seconds) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the certificate has expired", files.cert));
  }
  return made;
}

absl::Status ReadRoots(const std::string& path, TlsMaterial& made) {
  SHEAF_ASSIGN_OR_RETURN(made.ca_pem, ReadFile(path));
  SHEAF_ASSIGN_OR_RETURN(made.roots, Roots(path, made.ca_pem));
  return absl::OkStatus();
}

// As OpenSSL has them, or Debian's ca-certificates.
std::string SystemCas() {
  const char* const by_environment = std::getenv(X509_get_default_cert_file_env());
  if (by_environment != nullptr) return by_environment;
  const std::string built_in = X509_get_default_cert_file();
  return std::ifstream(built_in).good() ? built_in : "/etc/ssl/certs/ca-certificates.crt";
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TlsMaterial>> ReadTlsMaterial(const TlsFiles& files,
                                                                   int64_t now_unix_seconds) {
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<TlsMaterial> made, ReadOwn(files, now_unix_seconds));
  if (!files.ca.empty()) SHEAF_RETURN_IF_ERROR(ReadRoots(files.ca, *made));
  return std::shared_ptr<const TlsMaterial>(std::move(made));
}

absl::StatusOr<std::shared_ptr<const TlsMaterial>> ReadDialerMaterial(const TlsFiles& files,
                                                                      int64_t now_unix_seconds) {
  auto made = std::make_shared<TlsMaterial>();
  if (!files.cert.empty() || !files.key.empty()) {
    SHEAF_ASSIGN_OR_RETURN(made, ReadOwn(files, now_unix_seconds));
  }
  SHEAF_RETURN_IF_ERROR(ReadRoots(files.ca.empty() ? SystemCas() : files.ca, *made));
  return std::shared_ptr<const TlsMaterial>(std::move(made));
}

}  // namespace sheaf
