#pragma once
// ReachLinkMaker: several byte movers as one. A worker listens on all of them; a router takes the
// first of the worker's addresses that it can get to: shared memory on its own host, TCP elsewhere.
// An address that does not answer costs its share of the time until the deadline, then the next is
// tried.
//
// Errors     Connect: kFailedPrecondition "no transport in common" naming both sides, or what the
//            worker said for good; kUnavailable naming each address that was tried.
//            Listen: what the first mover that cannot listen says.

#include <memory>
#include <vector>

#include "exchange/link/link_maker.h"

namespace sheaf {

class ReachLinkMaker final : public LinkMaker {
 public:
  // Best first.
  explicit ReachLinkMaker(std::vector<std::unique_ptr<LinkMaker>> makers)
      : makers_(std::move(makers)) {}
  absl::StatusOr<std::unique_ptr<LinkListener>> Listen(const LinkListenerOptions& options,
                                                       Bell& bell, OnLink on_link) override;
  std::unique_ptr<LinkConnector> NewConnector() override;

 private:
  const std::vector<std::unique_ptr<LinkMaker>> makers_;
};

}  // namespace sheaf
