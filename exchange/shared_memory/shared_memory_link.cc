#include "exchange/shared_memory/shared_memory_link.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {

class SharedMemoryLink::Watch final : public IoLoop::Handler {
 public:
  Watch(IoLoop& loop, Bell& bell) : loop_(loop), bell_(bell) {}

  void OnReady(IoLoop::Token self, uint32_t /*events*/) override {
    // After the hello a peer has nothing to say here: bytes are as bad as a hang-up.
    loop_.Remove(self);
    gone_.store(true, std::memory_order_release);
    bell_.Ring();
  }

  bool peer_gone() const { return gone_.load(std::memory_order_acquire); }

 private:
  IoLoop& loop_;
  Bell& bell_;
  std::atomic<bool> gone_{false};
};

absl::StatusOr<std::unique_ptr<SharedMemoryLink>> SharedMemoryLink::Open(
    std::shared_ptr<IoLoop> loop, UniqueFd socket, LinkId id, LaneWriter out, UniqueFd peer_lane,
    UniqueFd peer_bell, Bell& own_bell, LinkPlace place) {
  std::unique_ptr<SharedMemoryLink> link(new SharedMemoryLink());
  link->place_ = std::move(place);
  link->loop_ = std::move(loop);
  link->socket_ = std::move(socket);
  link->id_ = id;
  link->out_ = std::move(out);
  SHEAF_ASSIGN_OR_RETURN(link->in_, LaneReader::Map(std::move(peer_lane)));
  SHEAF_ASSIGN_OR_RETURN(
      link->bell_memory_,
      MappedFile::Map(std::move(peer_bell), kDoorbellBytes, MappedFile::Access::kReadWrite));
  link->peer_bell_ = Doorbell(link->bell_memory_.data());
  link->watch_ = std::make_shared<Watch>(*link->loop_, own_bell);
  SHEAF_ASSIGN_OR_RETURN(
      link->token_, link->loop_->Add(link->socket_.get(), EPOLLIN | EPOLLRDHUP, link->watch_));
  return link;
}

SharedMemoryLink::~SharedMemoryLink() {
  if (token_ != 0) loop_->Remove(token_);
}

absl::Status SharedMemoryLink::Break(absl::Status why) {
  if (absl::IsResourceExhausted(why)) return why;
  broken_ = why;
  shutdown(socket_.get(), SHUT_RDWR);  // the peer need not wait for our end
  return why;
}

absl::StatusOr<std::span<uint8_t>> SharedMemoryLink::Reserve(size_t bytes) {
  SHEAF_RETURN_IF_ERROR(broken_);
  absl::StatusOr<std::span<uint8_t>> span = out_.Reserve(bytes, in_.peer_released());
  if (!span.ok()) return Break(span.status());
  reserved_ = true;
  return span;
}

absl::Status SharedMemoryLink::Send(FrameHeader header) {
  SHEAF_RETURN_IF_ERROR(Publish(header));
  peer_bell_.Ring();
  return absl::OkStatus();
}

absl::Status SharedMemoryLink::SendForRing(FrameHeader header, Doorbells& bells) {
  SHEAF_RETURN_IF_ERROR(Publish(header));
  bells.Add(peer_bell_);
  return absl::OkStatus();
}

absl::Status SharedMemoryLink::Publish(FrameHeader header) {
  SHEAF_RETURN_IF_ERROR(broken_);
  if (!reserved_) SHEAF_RETURN_IF_ERROR(Reserve(0).status());
  reserved_ = false;
  header.link = id_;
  out_.Publish(header);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<ArrivedFrame>> SharedMemoryLink::Next() {
  for (;;) {
    SHEAF_RETURN_IF_ERROR(broken_);
    // Asked before the lane is: all that the peer published before it went is then seen below.
    const bool gone = watch_->peer_gone();
    absl::StatusOr<std::optional<LaneFrame>> frame = in_.Next();
    if (!frame.ok()) {
      // Of a full machine too: a frame that cannot be read is not read later.
      return Break(absl::IsResourceExhausted(frame.status())
                       ? absl::UnavailableError(frame.status().message())
                       : frame.status());
    }
    if (!frame->has_value()) {
      if (gone) return Break(absl::UnavailableError("shared memory: the peer is gone"));
      return std::optional<ArrivedFrame>();
    }
    const absl::StatusOr<FrameHeader> header = DecodeFrameHeader((*frame)->header);
    if (!header.ok()) return Break(header.status());
    if (header->link != id_) continue;  // of another life: void
    if (header->payload_bytes != (*frame)->payload.size()) {
      return Break(absl::InvalidArgumentError(
          absl::StrFormat("shared memory: %s: wanted %d bytes of payload, got %d",
                          Describe(*header), header->payload_bytes, (*frame)->payload.size())));
    }
    return std::optional<ArrivedFrame>({*header, (*frame)->payload});
  }
}

void SharedMemoryLink::Release() { out_.SetReleased(in_.Release()); }

}  // namespace sheaf
