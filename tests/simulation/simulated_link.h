#pragma once
// SimulatedFrameLink: the router's end of a link over a simulated connection, as the byte movers of
// exchange/ give it to exchange/pool/pool_links.

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exchange/link/frame_link.h"
#include "tests/simulation/messages.h"
#include "tests/simulation/world.h"

namespace sheaf::simulation {

class SimulatedFrameLink final : public FrameLink {
 public:
  SimulatedFrameLink(World& world, ChannelPtr channel, LinkId id, size_t max_frames,
                     std::function<void()> ring);
  ~SimulatedFrameLink() override;

  absl::StatusOr<std::span<uint8_t>> Reserve(size_t bytes) override;
  absl::Status Send(FrameHeader header) override;
  absl::StatusOr<std::optional<ArrivedFrame>> Next() override;
  void Release() override { given_.clear(); }
  LinkId id() const override { return id_; }
  std::string path() const override { return "simulated"; }

 private:
  void Take(const MessagePtr& message);

  World& world_;
  const ChannelPtr channel_;
  const LinkId id_;
  const size_t max_frames_;
  const std::function<void()> ring_;
  std::vector<uint8_t> reserved_;
  std::deque<std::pair<FrameHeader, std::shared_ptr<const FrameMessage>>> inbox_;
  std::vector<std::shared_ptr<const FrameMessage>> given_;
  absl::Status broken_;
};

}  // namespace sheaf::simulation
