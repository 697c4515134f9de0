#pragma once
// Peer: the coordinator's end of one session, over gRPC or in process.
//
// Threads    Send and End from the coordinator's thread; they must not block, and they call nothing
//            of the coordinator.
// Ownership  shared: the stream and the coordinator end in their own time.

#include <memory>

#include "absl/status/status.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

template <typename Message>
class Peer {
 public:
  virtual ~Peer() = default;
  virtual void Send(const Message& message) = 0;
  // Nothing is sent after it. A second one changes nothing.
  virtual void End(const absl::Status& status) = 0;
};

using WorkerPeer = Peer<v1::ToWorker>;
using RouterPeer = Peer<v1::ToRouter>;

}  // namespace sheaf
