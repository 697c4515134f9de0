#include "network/tls/tls_identity.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <ctime>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/one_line.h"
#include "base/status.h"

namespace sheaf {
namespace {

int64_t UnixSeconds() { return static_cast<int64_t>(std::time(nullptr)); }

}  // namespace

absl::StatusOr<std::shared_ptr<TlsIdentity>> TlsIdentity::Open(TlsIdentityOptions options,
                                                               std::shared_ptr<TlsReport> report) {
  std::shared_ptr<TlsIdentity> identity(new TlsIdentity(std::move(options), std::move(report)));
  SHEAF_ASSIGN_OR_RETURN(std::shared_ptr<const TlsMaterial> material,
                         ReadTlsMaterial(identity->options_.files, UnixSeconds()));
  identity->report_->CertificateIs(identity->listener(), material->expires_unix_seconds);
  {
    absl::MutexLock lock(&identity->mutex_);
    identity->current_ = std::move(material);
  }
  identity->thread_ = std::thread([raw = identity.get()] { raw->Run(); });
  return identity;
}

TlsIdentity::~TlsIdentity() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const TlsMaterial> TlsIdentity::current() const {
  absl::MutexLock lock(&mutex_);
  return current_;
}

bool TlsIdentity::Accepts(const PeerCertificate& peer, PeerUse use) const {
  if (!wants_peer_certificate()) return true;
  const std::optional<PeerRefusal> refusal =
      RefusePeer(peer, *current(), {use, options_.allowed_names, {}}, UnixSeconds());
  if (!refusal) return true;
  report_->Refused(options_.listener, refusal->cause, refusal->peer, refusal->what);
  return false;
}

absl::Status TlsIdentity::CheckRole(std::string_view leaf_pem,
                                    std::initializer_list<PeerRole> roles) const {
  if (options_.allowed_names.empty()) return absl::OkStatus();
  const std::vector<std::string> names = NamesOf(leaf_pem);
  std::vector<std::string> wanted;
  for (const PeerRole role : roles) {
    if (options_.allowed_names.May(role, names)) return absl::OkStatus();
    wanted.push_back(NameOf(role));
  }
  const std::string what =
      absl::StrFormat("none of its names may act as %s", absl::StrJoin(wanted, " or "));
  report_->Refused(options_.listener, TlsRefusal::kWrongRole, DescribeNames(names), what);
  return absl::PermissionDeniedError(
      absl::StrFormat("the certificate of %s: %s", DescribeNames(names), what));
}

void TlsIdentity::Subscribe(std::weak_ptr<void> alive, Changed changed) {
  absl::MutexLock lock(&mutex_);
  subscribers_.push_back({std::move(alive), std::move(changed)});
}

void TlsIdentity::Look() {
  auto read = ReadTlsMaterial(options_.files, UnixSeconds());
  if (!read.ok()) {
    // Seen twice: no moment between two files.
    std::string problem(read.status().message());
    if (problem == problem_ && !std::exchange(warned_, true)) {
      spdlog::warn("TLS: {}: {}; the certificate read before stays", options_.listener,
                   OneLine(problem));
    }
    problem_ = std::move(problem);
    return;
  }
  problem_.clear();
  warned_ = false;
  std::vector<Subscriber> subscribers;
  {
    absl::MutexLock lock(&mutex_);
    if (**read == *current_) return;
    current_ = *read;
    std::erase_if(subscribers_, [](const Subscriber& one) { return one.alive.expired(); });
    subscribers = subscribers_;
  }
  report_->CertificateIs(options_.listener, (*read)->expires_unix_seconds);
  spdlog::info("TLS: {}: another certificate is presented from now on", options_.listener);
  for (const Subscriber& one : subscribers) {
    if (const std::shared_ptr<void> alive = one.alive.lock()) one.changed(**read);
  }
}

void TlsIdentity::Run() {
  pthread_setname_np(pthread_self(), "sheaf-tls");
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(&ending_), kLookEvery);
      if (ending_) return;
    }
    Look();
  }
}

}  // namespace sheaf
