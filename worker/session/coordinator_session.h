#pragma once
// CoordinatorSession: the worker's end of one sheaf.v1.Coordinator.WorkerSession stream.
//
// Messages are stamped when they are received, so that whoever reads them late can tell.
//
// Threads    Send from any thread; it never blocks. The callbacks come from gRPC's threads, in
//            order, on_end last and once; they must not block, nor destroy the session.
// Ownership  the destructor ends the stream and waits for its callbacks (which is quick: nothing is
//            waited for from the network).
// Errors     a coordinator that is not there, or that reads nothing while more than kMaxUnsent
//            messages wait, shows up as on_end.

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "network/tls/tls_identity.h"
#include "sheaf/v1/pool.grpc.pb.h"

namespace sheaf {

class CoordinatorSession {
 public:
  struct Callbacks {
    std::function<void(v1::ToWorker message, TimePoint received)> on_message;
    std::function<void(absl::Status status, TimePoint at)> on_end;
  };
  static constexpr size_t kMaxUnsent = 1024;

  // Starts connecting, in plaintext where there is no TLS identity.
  CoordinatorSession(const std::string& coordinator, const std::shared_ptr<TlsIdentity>& tls,
                     Callbacks callbacks);
  ~CoordinatorSession();

  void Send(v1::FromWorker message);

 private:
  class Stream;
  std::unique_ptr<v1::Coordinator::Stub> stub_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace sheaf
