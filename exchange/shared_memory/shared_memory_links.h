#pragma once
// SharedMemoryLinkMaker: links between processes of one host. A worker listens on a Unix socket
// ("shm:HOST:NAME", exchange/shared_memory/unix_socket.h); a router connects, says hello and sends
// its lane and bell with its proof; the worker sends its own with its welcome. Frames have no tags:
// they never leave the host, and who may write into a process's memory needs no link.
//
// Threads    one, started by the first Listen or Connect; it watches the sockets of all links.
// Errors     as LinkConnector says. The links may outlive the maker.

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "exchange/link/io_loop.h"
#include "exchange/link/link_maker.h"
#include "exchange/shared_memory/frame_lane.h"

namespace sheaf {

struct SharedMemoryOptions {
  // Payload bytes under way in one direction of a link.
  size_t max_lane_bytes = kDefaultLaneBytes;
};

class SharedMemoryLinkMaker final : public LinkMaker {
 public:
  explicit SharedMemoryLinkMaker(SharedMemoryOptions options = {});
  absl::StatusOr<std::unique_ptr<LinkListener>> Listen(const LinkListenerOptions& options,
                                                       Bell& bell, OnLink on_link) override;
  std::unique_ptr<LinkConnector> NewConnector() override;

 private:
  const SharedMemoryOptions options_;
  const std::shared_ptr<LazyIoLoop> loop_;
};

}  // namespace sheaf
