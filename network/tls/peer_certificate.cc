#include "network/tls/peer_certificate.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sheaf {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using GeneralNames = std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)>;

// Of a chain that a stranger sent.
constexpr int kMaxChain = 10;

Bio Reading(std::string_view pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
}

Certificate ReadCertificate(BIO* bio) {
  return {PEM_read_bio_X509(bio, nullptr, nullptr, nullptr), &X509_free};
}

std::vector<std::string> NamesIn(const X509& certificate) {
  std::vector<std::string> names;
  const GeneralNames found(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(
                               &certificate, NID_subject_alt_name, nullptr, nullptr)),
                           &GENERAL_NAMES_free);
  if (!found) return names;
  for (int i = 0; i < sk_GENERAL_NAME_num(found.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(found.get(), i);
    if (name->type != GEN_DNS && name->type != GEN_URI) continue;
    const ASN1_STRING* text = name->type == GEN_DNS ? name->d.dNSName
                                                    : name->d.uniformResourceIdentifier;
    std::string value(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                      static_cast<size_t>(ASN1_STRING_length(text)));
    if (name->type == GEN_DNS) value = absl::AsciiStrToLower(value);
    names.push_back(std::move(value));
  }
  return names;
}

bool HasHost(X509& leaf, const std::vector<std::string>& names, const std::string& host) {
  if (absl::StrContains(host, "://")) {
    return std::find(names.begin(), names.end(), host) != names.end();
  }
  return X509_check_ip_asc(&leaf, host.c_str(), 0) == 1 ||
         X509_check_host(&leaf, host.data(), host.size(),
                         X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
                         nullptr) == 1;
}

TlsRefusal CauseOf(int error) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return TlsRefusal::kExpired;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
    case X509_V_ERR_INVALID_CA:
      return TlsRefusal::kWrongCa;
    default:
      return TlsRefusal::kBadCertificate;
  }
}

// X509_V_OK, or why not.
int Verify(X509& leaf, std::string_view chain_pem, X509_STORE& roots, PeerUse use, int64_t now) {
  STACK_OF(X509)* chain = sk_X509_new_null();
  const Bio bio = Reading(chain_pem);
  for (int i = 0; i < kMaxChain; ++i) {
    Certificate next = ReadCertificate(bio.get());
    if (!next) break;
    sk_X509_push(chain, next.release());
  }
  X509_STORE_CTX* context = X509_STORE_CTX_new();
  int error = X509_V_ERR_UNSPECIFIED;
  if (X509_STORE_CTX_init(context, &roots, &leaf, chain) == 1) {
    X509_STORE_CTX_set_time(context, 0, static_cast<time_t>(now));
    X509_STORE_CTX_set_purpose(
        context, use == PeerUse::kClient ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER);
    const bool good = X509_verify_cert(context) == 1;
    error = X509_STORE_CTX_get_error(context);
    if (!good && error == X509_V_OK) error = X509_V_ERR_UNSPECIFIED;
  }
  X509_STORE_CTX_free(context);
  sk_X509_pop_free(chain, &X509_free);
  ERR_clear_error();
  return error;
}

std::string PemOf(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()), &BIO_free);
  PEM_write_bio_X509(bio.get(), certificate);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

}  // namespace

PeerPem::PeerPem(ssl_st& session) {
  if (X509* const own = SSL_get1_peer_certificate(&session); own != nullptr) {
    leaf = PemOf(own);
    X509_free(own);
  }
  if (STACK_OF(X509)* const sent = SSL_get_peer_cert_chain(&session); sent != nullptr) {
    for (int i = 0; i < sk_X509_num(sent); ++i) chain += PemOf(sk_X509_value(sent, i));
  }
}

std::string DescribeNames(const std::vector<std::string>& names) {
  if (names.empty()) return "a certificate without names";
  const size_t told = std::min<size_t>(names.size(), 4);
  std::string text =
      absl::StrJoin(names.begin(), names.begin() + static_cast<ptrdiff_t>(told), ", ");
  if (text.size() > 256) text.resize(256);
  return text;
}

std::vector<std::string> NamesOf(std::string_view leaf_pem) {
  const Certificate leaf = ReadCertificate(Reading(leaf_pem).get());
  ERR_clear_error();
  return leaf ? NamesIn(*leaf) : std::vector<std::string>{};
}

std::optional<PeerRefusal> RefusePeer(const PeerCertificate& peer, const TlsMaterial& material,
                                      const PeerWish& wish, int64_t now_unix_seconds) {
  if (peer.leaf_pem.empty()) {
    return PeerRefusal{TlsRefusal::kNoCertificate, "no certificate",
                       "a certificate is wanted of it"};
  }
  const Certificate leaf = ReadCertificate(Reading(peer.leaf_pem).get());
  ERR_clear_error();
  if (!leaf || !material.roots) {
    return PeerRefusal{TlsRefusal::kBadCertificate, "a certificate", "it cannot be checked"};
  }
  const std::vector<std::string> names = NamesIn(*leaf);
  const int error =
      Verify(*leaf, peer.chain_pem, *material.roots, wish.use, now_unix_seconds);
  if (error != X509_V_OK) {
    return PeerRefusal{CauseOf(error), DescribeNames(names), X509_verify_cert_error_string(error)};
  }
  if (!wish.host.empty() && !HasHost(*leaf, names, wish.host)) {
    return PeerRefusal{TlsRefusal::kWrongName, DescribeNames(names),
                       absl::StrFormat("none of its names is %s", wish.host)};
  }
  if (wish.allowed.empty()) return std::nullopt;
  if (!wish.allowed.HasAny(names)) {
    return PeerRefusal{TlsRefusal::kWrongName, DescribeNames(names),
                       "none of its names is on the list of allowed names"};
  }
  if (wish.use == PeerUse::kServer && !wish.allowed.May(PeerRole::kCoordinator, names)) {
    return PeerRefusal{TlsRefusal::kWrongRole, DescribeNames(names),
                       "none of its names may act as coordinator"};
  }
  return std::nullopt;
}

}  // namespace sheaf
