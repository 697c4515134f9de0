#pragma once
// What a router's and a worker's end have in common: the doorbell that peers ring, the watch over
// their sockets, the first error, and the loop that waits.
//
// Channel    all that an end has with one peer.
//
// Threads    one at a time; Abort() from any thread.
// Waits      look for work, then sleep on the doorbell until the deadline; a broken socket and
//            Abort ring it too.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "exchange/shared_memory/doorbell.h"
#include "exchange/shared_memory/frame_lane.h"
#include "exchange/shared_memory/handshake.h"
#include "exchange/shared_memory/peer_watch.h"

namespace sheaf {

struct Channel {
  // Maps what the peer sent in its handshake.
  static absl::StatusOr<Channel> Open(UniqueFd socket, LaneWriter out, Handshake from_peer);

  // One frame, its payload copied. kUnavailable if there is no room for it: a link is then lost.
  absl::Status Send(const FrameHeader& header, std::span<const uint8_t> payload);

  UniqueFd socket;
  LaneWriter out;
  LaneReader in;
  MappedFile bell_memory;
  Doorbell bell;
};

class LinkEnd {
 public:
  static absl::StatusOr<std::unique_ptr<LinkEnd>> Create();

  const SharedMemoryAddress& self() const { return self_; }
  const std::string& address() const { return address_; }
  int doorbell_fd() const { return bell_memory_.fd(); }

  // OK as soon as advance() says true; its error; Abort's; kUnavailable once a watched socket broke
  // and advance() has seen all that came before; kDeadlineExceeded.
  absl::Status WaitUntil(absl::FunctionRef<absl::StatusOr<bool>()> advance, TimePoint deadline);

  // As WaitUntil, but for sockets during the handshake: until one of them is readable.
  absl::Status WaitReadable(const std::vector<int>& sockets, TimePoint deadline);

  absl::Status StartWatch(std::vector<int> sockets);
  // Stops it. Only then may the sockets be closed.
  void StopWatch() { watch_ = nullptr; }
  // Indices into StartWatch's sockets.
  std::vector<size_t> Broken() const;

  void Abort(absl::Status why);
  absl::Status aborted() const;

 private:
  LinkEnd() = default;

  // Constant after Create.
  SharedMemoryAddress self_;
  std::string address_;
  MemoryFile bell_memory_;
  Doorbell bell_;
  UniqueFd abort_;

  std::atomic<bool> is_aborted_{false};
  std::atomic<size_t> num_broken_{0};
  mutable std::mutex mutex_;
  absl::Status aborted_;        // guarded by mutex_
  std::vector<size_t> broken_;  // guarded by mutex_

  std::unique_ptr<PeerWatch> watch_;  // last: its thread uses the rest
};

}  // namespace sheaf
