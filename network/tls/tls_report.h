#pragma once
// TlsReport: what is known of TLS, as log lines and figures (docs/metrics.md, "TLS").
//
// Refusals   each counts; the log has one line a peer, cause and minute, with the number of
//            those that were left out. Strangers cannot fill it: beyond kMaxPeers peers of a
//            minute, lines are left out too.
// Threads    all verbs from any thread; one short lock.
// Ownership  the registry outlives this.

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace sheaf {

// Why a connection was refused.
enum class TlsRefusal {
  kPlaintext,      // the first byte is not TLS
  kNoCertificate,  // one is wanted
  kWrongCa,        // of none of the CAs, or forged
  kExpired,        // or not valid yet
  kWrongName,      // not on the list of names
  kWrongRole,      // on it, but not for what was asked
  kBadCertificate,  // anything else: unreadable, not for this use
  kOldVersion,     // of TLS, where the newest alone is spoken
  kHandshake,      // it did not come to an end
};

const char* NameOf(TlsRefusal cause);  // as the label has it

class TlsReport {
 public:
  static constexpr size_t kMaxPeers = 256;
  static constexpr std::chrono::minutes kQuiet{1};

  // A null registry: the log alone.
  TlsReport(prometheus::Registry* registry, const Clock& clock);

  // `listener`: "clients", "cluster" or "metrics". `peer`: its address, or the names of its
  // certificate. `what`: for people, e.g. "its certificate has expired".
  void Refused(const std::string& listener, TlsRefusal cause, const std::string& peer,
               const std::string& what);
  // End of the certificate that is presented.
  void CertificateIs(const std::string& listener, int64_t expires_unix_seconds);

 private:
  struct Line {
    TimePoint last{};
    int64_t left_out = 0;
  };

  const Clock& clock_;
  prometheus::Family<prometheus::Counter>* refused_ = nullptr;
  prometheus::Family<prometheus::Gauge>* expiry_ = nullptr;
  absl::Mutex mutex_;
  std::map<std::string, Line> lines_ ABSL_GUARDED_BY(mutex_);  // by listener, cause and peer
};

}  // namespace sheaf
