#pragma once
// SharedMemoryLink: a FrameLink of two lanes and the peer's bell. The sender writes a payload once,
// into its lane; the receiver reads it there; nobody else runs in between.
//
// Death      the loop's thread watches the Unix socket; when it breaks it marks the link and rings
//            the own bell. What the peer published before is still delivered.

#include <atomic>
#include <memory>

#include "exchange/link/bell.h"
#include "exchange/link/frame_link.h"
#include "exchange/link/hello_acceptor.h"
#include "exchange/link/io_loop.h"
#include "exchange/shared_memory/frame_lane.h"

namespace sheaf {

class SharedMemoryLink final : public FrameLink {
 public:
  // `out` is this end's lane, which the peer has; lane and bell are the peer's.
  static absl::StatusOr<std::unique_ptr<SharedMemoryLink>> Open(std::shared_ptr<IoLoop> loop,
                                                                UniqueFd socket, LinkId id,
                                                                LaneWriter out, UniqueFd peer_lane,
                                                                UniqueFd peer_bell, Bell& own_bell,
                                                                LinkPlace place);
  ~SharedMemoryLink() override;

  absl::StatusOr<std::span<uint8_t>> Reserve(size_t bytes) override;
  absl::Status Send(FrameHeader header) override;
  absl::Status SendForRing(FrameHeader header, Doorbells& bells) override;
  absl::StatusOr<std::optional<ArrivedFrame>> Next() override;
  void Release() override;
  LinkId id() const override { return id_; }
  std::string path() const override { return "shared memory"; }

 private:
  class Watch;

  SharedMemoryLink() = default;
  absl::Status Publish(FrameHeader header);
  absl::Status Break(absl::Status why);

  LinkPlace place_;
  std::shared_ptr<IoLoop> loop_;
  UniqueFd socket_;
  LinkId id_;
  LaneWriter out_;
  LaneReader in_;
  MappedFile bell_memory_;
  Doorbell peer_bell_;
  std::shared_ptr<Watch> watch_;
  IoLoop::Token token_ = 0;
  bool reserved_ = false;
  absl::Status broken_;
};

}  // namespace sheaf
