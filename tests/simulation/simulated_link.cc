#include "tests/simulation/simulated_link.h"

#include <utility>

namespace sheaf::simulation {

SimulatedFrameLink::SimulatedFrameLink(World& world, ChannelPtr channel, LinkId id,
                                       size_t max_frames, std::function<void()> ring)
    : world_(world),
      channel_(std::move(channel)),
      id_(id),
      max_frames_(max_frames),
      ring_(std::move(ring)) {
  channel_->on_message = [this](const MessagePtr& message) { Take(message); };
  channel_->on_closed = [this](const std::string& why) {
    if (broken_.ok()) broken_ = absl::UnavailableError(why);
    ring_();
  };
}

SimulatedFrameLink::~SimulatedFrameLink() {
  channel_->on_message = nullptr;
  channel_->on_closed = nullptr;
  channel_->Close();
}

void SimulatedFrameLink::Take(const MessagePtr& message) {
  auto frame = std::dynamic_pointer_cast<const FrameMessage>(message);
  if (frame == nullptr) return;
  absl::StatusOr<FrameHeader> header = DecodeFrameHeader(frame->header);
  if (!header.ok() || header->payload_bytes != frame->payload.size()) {
    broken_ = absl::InvalidArgumentError("the peer writes nonsense");
    return ring_();
  }
  if (header->link != id_ && world_.mutant != Mutant::kSkipLinkCheck) {
    world_.trace.Add(world_.now(), "frame of another link dropped", {header->link.value()});
    return;
  }
  inbox_.emplace_back(*header, std::move(frame));
  ring_();
}

absl::StatusOr<std::span<uint8_t>> SimulatedFrameLink::Reserve(size_t bytes) {
  if (!broken_.ok()) return broken_;
  if (channel_->under_way() >= max_frames_) return absl::ResourceExhaustedError("the link is full");
  reserved_.assign(bytes, 0);
  return std::span<uint8_t>(reserved_);
}

absl::Status SimulatedFrameLink::Send(FrameHeader header) {
  if (!broken_.ok()) return broken_;
  header.link = id_;
  reserved_.resize(header.payload_bytes);
  SendFrame(*channel_, header, std::exchange(reserved_, {}));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<ArrivedFrame>> SimulatedFrameLink::Next() {
  if (inbox_.empty()) {
    if (!broken_.ok()) return broken_;
    return std::nullopt;
  }
  auto [header, frame] = std::move(inbox_.front());
  inbox_.pop_front();
  given_.push_back(frame);
  return ArrivedFrame{header, std::span<const uint8_t>(frame->payload)};
}

}  // namespace sheaf::simulation
