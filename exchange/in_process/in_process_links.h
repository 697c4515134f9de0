#pragma once
// Links between a router and workers of one process: pairs of bounded mailboxes. For one-process
// set-ups and for tests, which may look at every frame under way with a tap and cut links.
//
//   InProcessNetwork network;                      // what the makers' addresses mean ("mem:1")
//   InProcessLinkMaker worker(network), router(network);
//
// Tap        is shown each frame as it is sent; it may change its bytes, drop it, or hold it back
//            until DeliverHeld (later frames then overtake it).
// Ownership  the network outlives makers, listeners and links.
// Threads    any; the tap is called with no lock held, from the sender's thread. Connect runs the
//            listener's on_link in the caller's thread.
// Errors     as FrameLink and LinkConnector say.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "exchange/link/link_maker.h"

namespace sheaf {

enum class TapVerdict { kPass, kDrop, kHold };

struct PassingFrame {
  LinkId link;
  bool to_worker = true;
  FrameHeaderBytes& header;
  std::span<uint8_t> payload;
};

using FrameTap = std::function<TapVerdict(PassingFrame& frame)>;

struct InProcessOptions {
  size_t max_frames = 64;  // each way: sent and not yet released
  size_t max_bytes = size_t{1} << 30;
};

class InProcessPipe;  // both ways of one link
class InProcessListening;

class InProcessNetwork {
 public:
  explicit InProcessNetwork(InProcessOptions options = {}) : options_(options) {}

  void SetTap(FrameTap tap);  // an empty one ends it
  // All frames that were held back, in the order they were sent.
  void DeliverHeld();
  // The link breaks for both ends, as when a network does. What has arrived is still read.
  void Cut(LinkId link);
  // Nobody reaches that address any more, until `reachable` again. Links that are there go on.
  void SetReachable(const std::string& address, bool reachable);
  std::vector<LinkId> links();  // that live

 private:
  friend class InProcessLinkMaker;
  friend class InProcessListener;
  friend class InProcessConnector;
  friend class InProcessLink;

  std::shared_ptr<const FrameTap> tap();
  void Hold(const std::shared_ptr<InProcessPipe>& pipe, bool to_worker,
            const FrameHeaderBytes& header, std::vector<uint8_t> payload);

  const InProcessOptions options_;
  absl::Mutex mutex_;
  struct Held {
    std::weak_ptr<InProcessPipe> pipe;
    bool to_worker;
    FrameHeaderBytes header;
    std::vector<uint8_t> payload;
  };
  std::shared_ptr<const FrameTap> tap_ ABSL_GUARDED_BY(mutex_);
  std::vector<Held> held_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<InProcessListening>> listening_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<InProcessPipe>> pipes_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_address_ ABSL_GUARDED_BY(mutex_) = 0;
};

class InProcessLinkMaker final : public LinkMaker {
 public:
  explicit InProcessLinkMaker(InProcessNetwork& network) : network_(network) {}
  absl::StatusOr<std::unique_ptr<LinkListener>> Listen(const LinkListenerOptions& options,
                                                       Bell& bell, OnLink on_link) override;
  std::unique_ptr<LinkConnector> NewConnector() override;

 private:
  InProcessNetwork& network_;
};

}  // namespace sheaf
