#pragma once
// TcpLinkMaker: links between hosts, over TCP of our own (epoll). A worker listens on an address
// and a port of a range ("tcp:10.0.0.2:7001"); a router connects and says hello; frames follow.
// Whatever a stranger sends costs its own connection only.
//
// A payload is copied by the kernel on both sides and, below 64 KiB, once more on arrival.
//
// Threads    one, started by the first Listen or Connect; it receives for all links.
// Errors     Listen: kInvalidArgument: no such address, or a wildcard without advertised_host;
//            kUnavailable: no free port. Connect: as LinkConnector says.

#include <memory>
#include <string>

#include "exchange/link/io_loop.h"
#include "exchange/link/link_maker.h"
#include "exchange/tcp/tcp_channel.h"

namespace sheaf {

struct TcpOptions {
  // What a worker listens on: an IPv4 or IPv6 address, "0.0.0.0" or "::" for all.
  std::string host = "127.0.0.1";
  int first_port = 0;  // 0: any
  int last_port = 0;
  // What routers are told; "": host.
  std::string advertised_host;
  // The address of this host that a router's connections come from; "": as the routes say.
  std::string source_host;
  // A peer that acknowledges nothing for this long is gone.
  Duration dead_after = std::chrono::seconds(2);
  TcpLimits limits;
  // Of every frame; both ends must have the same.
  FrameIntegrity integrity = FrameIntegrity::kMac;
};

class TcpLinkMaker final : public LinkMaker {
 public:
  explicit TcpLinkMaker(TcpOptions options);
  absl::StatusOr<std::unique_ptr<LinkListener>> Listen(const LinkListenerOptions& options,
                                                       Bell& bell, OnLink on_link) override;
  std::unique_ptr<LinkConnector> NewConnector() override;

 private:
  const TcpOptions options_;
  const std::shared_ptr<LazyIoLoop> loop_;
};

}  // namespace sheaf
