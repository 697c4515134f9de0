#pragma once
// TlsIdentity: the certificate that a process presents on the connections of one kind, and whom it
// accepts at the other end. Files that change are taken up within about a second, whole or not at
// all: a key that is not the certificate's (files replaced one after the other) waits for the next
// look, with a warning when it lasts. Connections that are open go on.
//
// Threads    one of its own looks at the files; everything else: any thread.
// Ownership  shared; borrows report and clock, which outlive it.
// Errors     Open: as ReadTlsMaterial, with the flag named. Later ones: the log, the old ones stay.

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "network/tls/peer_certificate.h"
#include "network/tls/tls_material.h"
#include "network/tls/tls_report.h"

namespace sheaf {

struct TlsIdentityOptions {
  std::string listener;  // for log and figures: "clients", "cluster" or "metrics"
  TlsFiles files;
  AllowedNames allowed_names;  // of the other end; empty: every one of the CAs
};

class TlsIdentity {
 public:
  static constexpr absl::Duration kLookEvery = absl::Milliseconds(500);
  using Changed = std::function<void(const TlsMaterial& now)>;

  static absl::StatusOr<std::shared_ptr<TlsIdentity>> Open(TlsIdentityOptions options,
                                                           std::shared_ptr<TlsReport> report);
  ~TlsIdentity();

  std::shared_ptr<const TlsMaterial> current() const;
  const std::string& listener() const { return options_.listener; }
  bool wants_peer_certificate() const { return !options_.files.ca.empty(); }
  TlsReport& report() const { return *report_; }

  // Everyone where there are no CAs. Refused ones are reported.
  bool Accepts(const PeerCertificate& peer, PeerUse use) const;
  // Whether an accepted client may act in one of the roles, by the names of its certificate. OK
  // where no names are listed; else kPermissionDenied, reported.
  absl::Status CheckRole(std::string_view leaf_pem, std::initializer_list<PeerRole> roles) const;
  // `changed` runs on the thread that looks while `alive` is there, which must not own this.
  void Subscribe(std::weak_ptr<void> alive, Changed changed);

 private:
  TlsIdentity(TlsIdentityOptions options, std::shared_ptr<TlsReport> report)
      : options_(std::move(options)), report_(std::move(report)) {}
  void Look();
  void Run();

  const TlsIdentityOptions options_;
  const std::shared_ptr<TlsReport> report_;
  std::string problem_;  // of the last look; the thread's
  bool warned_ = false;
  mutable absl::Mutex mutex_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<const TlsMaterial> current_ ABSL_GUARDED_BY(mutex_);
  struct Subscriber {
    std::weak_ptr<void> alive;
    Changed changed;
  };
  std::vector<Subscriber> subscribers_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sheaf
