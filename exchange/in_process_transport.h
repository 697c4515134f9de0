#pragma once
// InProcessTransport: links between threads of one process (--transport inprocess, and tests of
// everything above the wire). Frames are encoded and decoded as on a wire; payloads are copied once
// into a bounded mailbox.
//
// A tap sees every frame before it is delivered and may drop it: how tests make workers silent and
// answers late. A worker end that is Closed or destroyed is seen by the router end as a lost peer.
//
// Threads    the transport: any. Ownership: links keep what they share alive.

#include <functional>
#include <memory>

#include "exchange/transport.h"

namespace sheaf {

class InProcessTransport final : public Transport {
 public:
  InProcessTransport();
  ~InProcessTransport() override;

  absl::StatusOr<std::unique_ptr<RouterLink>> NewRouterLink(Epoch epoch) override;
  absl::StatusOr<std::unique_ptr<WorkerLink>> NewWorkerLink(Epoch epoch, WorkerId self) override;

  // False = drop. Called on the sending thread; set before the links are used.
  using Tap = std::function<bool(const FrameHeader&)>;
  void SetTap(Tap tap);

  struct Network;

 private:
  std::shared_ptr<Network> network_;
};

}  // namespace sheaf
