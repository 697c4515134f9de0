#pragma once
// How links come to be. A worker listens; routers connect and say hello. What a worker listens on
// is a list of addresses, one a byte mover ("shm:HOST:NAME", "tcp:10.0.0.2:7001"), that travels
// over the control plane; a router takes the first that reaches it.
//
// LinkListener   accepts in the background, checks hellos, gives each good link to on_link.
//                Bounded: at most max_links links and as many unfinished hellos at a time, each
//                with a deadline; who says anything else than a right hello is closed and told to
//                on_refused.
// LinkConnector  one attempt with a deadline.
//
// Threads    on_link and on_refused are called from the listener's thread and must not block.
//            Connect: any thread.
// Ownership  bells outlive the links that ring them.
// Errors     Connect: kUnavailable: nobody there, in time, or that reaches it (all addresses
//            named); kUnauthenticated: one of the two does not know the link's key;
//            kFailedPrecondition: it is there but will never take this router (other version, model
//            or integrity, no transport in common: both sides named).

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "exchange/link/bell.h"
#include "exchange/link/frame_link.h"
#include "exchange/link/hello_refusal.h"
#include "exchange/link/link_handshake.h"

namespace sheaf {

using OnLink = std::function<void(std::unique_ptr<FrameLink> link, const Hello& hello)>;

class LinkListener {
 public:
  virtual ~LinkListener() = default;  // stops accepting; links that were made go on
  virtual std::vector<std::string> addresses() const = 0;
};

struct LinkListenerOptions {
  LinkIdentity self;
  int max_links = 256;
  Duration hello_timeout = std::chrono::seconds(2);
  // Counts links together with the other listeners that share it; nullptr: its own alone.
  std::shared_ptr<std::atomic<int>> live_links;
  std::function<void(const RefusedHello&)> on_refused;
};

class LinkConnector {
 public:
  virtual ~LinkConnector() = default;
  // `bell` rings for the new link.
  virtual absl::StatusOr<std::unique_ptr<FrameLink>> Connect(
      const std::vector<std::string>& addresses, const LinkRequest& request, Bell& bell,
      TimePoint deadline) = 0;
  // Whether an address is of this mover's kind and of a place that it can get to.
  virtual bool Reaches(const std::string& /*address*/) const { return true; }
  // What it can get to, for messages: "shm on host X", "tcp".
  virtual std::string reach() const { return ""; }
};

// How a connector says what a peer's answer to the hello came to: nonsense of whoever is there now
// is kUnavailable.
absl::Status AsConnectError(const absl::Status& status);

// kFailedPrecondition naming what this side reaches and what the worker listens on.
absl::Status NothingInCommon(const std::string& reach, const std::vector<std::string>& addresses);

// One of these is built for --transport (cli/data_plane).
class LinkMaker {
 public:
  virtual ~LinkMaker() = default;
  virtual absl::StatusOr<std::unique_ptr<LinkListener>> Listen(const LinkListenerOptions& options,
                                                               Bell& bell, OnLink on_link) = 0;
  virtual std::unique_ptr<LinkConnector> NewConnector() = 0;
};

}  // namespace sheaf
