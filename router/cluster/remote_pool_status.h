#pragma once
// What a coordinator behind gRPC says of its pool (sheaf.v1.Pool.GetStatus), for people who look.
// Nothing that serves requests waits for it or depends on it.
//
//   Get   the last answer, as long as it is younger than `stale`; nothing when there is none. When
//         it is older than `fresh`, another one is asked for; one call at a time. It does not wait.
//
// Threads    Get: any. Destruction cancels the call under way and waits for its end.
// Ownership  borrows the clock.
// Errors     none: a coordinator that does not answer shows up as nothing.

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "network/tls/tls_identity.h"
#include "sheaf/v1/pool.grpc.pb.h"

namespace sheaf {

class RemotePoolStatus {
 public:
  // `address`: host:port. `token`: the pool's; empty: there is none. `tls` null: plaintext.
  RemotePoolStatus(const std::string& address, std::string token, const Clock& clock,
                   const std::shared_ptr<TlsIdentity>& tls = nullptr);
  ~RemotePoolStatus();
  RemotePoolStatus(const RemotePoolStatus&) = delete;
  RemotePoolStatus& operator=(const RemotePoolStatus&) = delete;

  std::shared_ptr<const v1::PoolStatus> Get();

 private:
  static constexpr std::chrono::seconds kFresh{1}, kStale{5}, kTimeout{2};
  struct Call;
  void Ask() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Ended(const std::shared_ptr<Call>& call, const grpc::Status& status);

  const std::string token_;
  const Clock& clock_;
  const std::unique_ptr<v1::Pool::Stub> stub_;
  absl::Mutex mutex_;
  std::shared_ptr<Call> under_way_ ABSL_GUARDED_BY(mutex_);
  TimePoint asked_at_ ABSL_GUARDED_BY(mutex_);
  bool asked_ ABSL_GUARDED_BY(mutex_) = false;  // ever
  std::shared_ptr<const v1::PoolStatus> last_ ABSL_GUARDED_BY(mutex_);
  TimePoint last_at_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf
