#include "network/tls/tls_report.h"

#include <spdlog/spdlog.h>

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "prometheus/family.h"

namespace sheaf {
namespace {

constexpr TlsRefusal kCauses[] = {TlsRefusal::kPlaintext,  TlsRefusal::kNoCertificate,
                                  TlsRefusal::kWrongCa,    TlsRefusal::kExpired,
                                  TlsRefusal::kWrongName,  TlsRefusal::kWrongRole,
                                  TlsRefusal::kBadCertificate, TlsRefusal::kOldVersion,
                                  TlsRefusal::kHandshake};

}  // namespace

const char* NameOf(TlsRefusal cause) {
  switch (cause) {
    case TlsRefusal::kPlaintext:
      return "plaintext";
    case TlsRefusal::kNoCertificate:
      return "no_certificate";
    case TlsRefusal::kWrongCa:
      return "wrong_ca";
    case TlsRefusal::kExpired:
      return "expired";
    case TlsRefusal::kWrongName:
      return "wrong_name";
    case TlsRefusal::kWrongRole:
      return "wrong_role";
    case TlsRefusal::kOldVersion:
      return "old_version";
    case TlsRefusal::kBadCertificate:
      return "bad_certificate";
    case TlsRefusal::kHandshake:
      return "handshake";
  }
  return "";
}

TlsReport::TlsReport(prometheus::Registry* registry, const Clock& clock) : clock_(clock) {
  if (registry == nullptr) return;
  refused_ = &prometheus::BuildCounter()
                  .Name("sheaf_tls_refused_total")
                  .Help("Connections that were refused for want of TLS or of a good certificate.")
                  .Register(*registry);
  expiry_ = &prometheus::BuildGauge()
                 .Name("sheaf_tls_certificate_expiry_timestamp_seconds")
                 .Help("When the certificate that is presented ends.")
                 .Register(*registry);
}

void TlsReport::Refused(const std::string& listener, TlsRefusal cause, const std::string& peer,
                        const std::string& what) {
  if (refused_ != nullptr) {
    refused_->Add({{"listener", listener}, {"cause", NameOf(cause)}}).Increment();
  }
  const TimePoint now = clock_.Now();
  int64_t left_out = 0;
  {
    absl::MutexLock lock(&mutex_);
    const std::string key = absl::StrFormat("%s %s %s", listener, NameOf(cause), peer);
    const auto known = lines_.find(key);
    if (known != lines_.end() && now - known->second.last < kQuiet) {
      ++known->second.left_out;
      return;
    }
    if (known != lines_.end()) {
      left_out = known->second.left_out;
      known->second = {now, 0};
    } else {
      if (lines_.size() >= kMaxPeers) {
        std::erase_if(lines_, [&](const auto& line) { return now - line.second.last >= kQuiet; });
        if (lines_.size() >= kMaxPeers) return;
      }
      lines_[key] = {now, 0};
    }
  }
  spdlog::warn("TLS: {}: refused ({}): {}: {}{}", listener, NameOf(cause), OneLine(peer),
               OneLine(what),
               left_out > 0 ? absl::StrFormat("; %d more since the last such line", left_out) : "");
}

void TlsReport::CertificateIs(const std::string& listener, int64_t expires_unix_seconds) {
  if (expiry_ == nullptr) return;
  // From zero on, so that a first refusal is an increase.
  for (const TlsRefusal cause : kCauses) {
    refused_->Add({{"listener", listener}, {"cause", NameOf(cause)}});
  }
  expiry_->Add({{"listener", listener}}).Set(static_cast<double>(expires_unix_seconds));
}

}  // namespace sheaf
