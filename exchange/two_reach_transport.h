#pragma once
// TwoReachTransport: one transport for the peers of this host and another for the rest, behind one
// address. A pair of processes agrees without asking: equal host identities mean the near one.
//
//   address    u32 length + host, u32 length + near address, far address
//
// A router's link may have peers of both kinds; a layer's answers are then awaited from the far
// ones first, which need the progress. A near peer's death meanwhile is seen by its session's end,
// which aborts the link, or at the latest by the deadline.
//
// Ownership  owns both transports. Threads, errors: as exchange/transport.h.

#include <memory>
#include <string>

#include "exchange/transport.h"

namespace sheaf {

class TwoReachTransport final : public Transport {
 public:
  // `host`: empty = no peer is near.
  TwoReachTransport(std::string host, std::unique_ptr<Transport> near_transport,
                    std::unique_ptr<Transport> far_transport);

  absl::StatusOr<std::unique_ptr<RouterLink>> NewRouterLink(Epoch epoch) override;
  absl::StatusOr<std::unique_ptr<WorkerLink>> NewWorkerLink(Epoch epoch, WorkerId self) override;

 private:
  const std::string host_;
  const std::unique_ptr<Transport> near_;
  const std::unique_ptr<Transport> far_;
};

}  // namespace sheaf
