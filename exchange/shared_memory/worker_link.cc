#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/shared_memory/link_end.h"
#include "exchange/shared_memory/shared_memory_transport.h"

namespace sheaf {
namespace {

class SharedMemoryWorkerLink final : public WorkerLink {
 public:
  SharedMemoryWorkerLink(Epoch epoch, WorkerId self) : epoch_(epoch), self_(self) {}
  ~SharedMemoryWorkerLink() override { Close(); }

  absl::Status Open() {
    SHEAF_ASSIGN_OR_RETURN(end_, LinkEnd::Create());
    return absl::OkStatus();
  }

  Epoch epoch() const override { return epoch_; }
  const std::string& address() const override { return end_->address(); }

  absl::Status Connect(const std::string& router_address) override {
    SHEAF_ASSIGN_OR_RETURN(const SharedMemoryAddress router,
                           SharedMemoryAddress::Parse(router_address));
    absl::StatusOr<UniqueFd> socket = ConnectTo(router.name);
    if (!socket.ok()) return Lost(socket.status());
    socket_ = *std::move(socket);
    SHEAF_ASSIGN_OR_RETURN(lane_, LaneWriter::Create());
    const absl::Status sent = SendHandshake(
        socket_.get(), {epoch_, self_, end_->self().name, {}, {}}, lane_.fd(), end_->doorbell_fd());
    return sent.ok() ? sent : Lost(sent);
  }

  absl::StatusOr<ReceivedDispatch> Receive(TimePoint deadline) override {
    if (closed_) return absl::FailedPreconditionError("the link is closed");
    if (!router_.has_value()) SHEAF_RETURN_IF_ERROR(AwaitRouter(deadline));
    router_->out.SetReleased(router_->in.consumed());
    std::optional<ReceivedDispatch> dispatch;
    const absl::Status status = end_->WaitUntil(
        [&]() -> absl::StatusOr<bool> {
          while (!dispatch.has_value() && router_->in.HasFrame()) {
            SHEAF_ASSIGN_OR_RETURN(const LaneFrame frame, router_->in.Next());
            SHEAF_ASSIGN_OR_RETURN(dispatch, Take(frame));
          }
          return dispatch.has_value();
        },
        deadline);
    if (status.ok()) return *dispatch;
    if (absl::IsDeadlineExceeded(status) || !end_->aborted().ok()) return status;
    return Lost(status);
  }

  absl::StatusOr<std::span<uint8_t>> ReplyBuffer(size_t bytes) override {
    if (!router_.has_value()) return absl::FailedPreconditionError("no router is connected");
    return router_->out.Reserve(bytes, router_->in.peer_released());
  }

  absl::Status Reply(const FrameHeader& header) override {
    if (!router_.has_value()) return absl::FailedPreconditionError("no router is connected");
    // Before the answer: the router may dispatch the next layer as soon as it has it, and then
    // finds its lane empty.
    router_->out.SetReleased(router_->in.consumed());
    router_->out.Publish(header);
    router_->bell.Ring();
    return absl::OkStatus();
  }

  void Abort(absl::Status why) override { end_->Abort(std::move(why)); }

  void Close() override {
    closed_ = true;
    if (end_ != nullptr) end_->StopWatch();
    router_.reset();
    socket_.reset();
  }

 private:
  // The router's half of the handshake comes when it opens the epoch.
  absl::Status AwaitRouter(TimePoint deadline) {
    if (!socket_.valid()) return absl::FailedPreconditionError("Receive before Connect");
    std::optional<Handshake> handshake;
    while (!handshake.has_value()) {
      SHEAF_RETURN_IF_ERROR(end_->WaitReadable({socket_.get()}, deadline));
      absl::StatusOr<std::optional<Handshake>> received = ReceiveHandshake(socket_.get());
      if (!received.ok()) return Lost(received.status());
      handshake = *std::move(received);
    }
    absl::StatusOr<Channel> channel =
        Channel::Open(std::move(socket_), std::move(lane_), *std::move(handshake));
    if (!channel.ok()) return Lost(channel.status());
    router_ = *std::move(channel);
    return end_->StartWatch({router_->socket.get()});
  }

  // nullopt: it was the hello, or belongs to nothing.
  absl::StatusOr<std::optional<ReceivedDispatch>> Take(const LaneFrame& frame) {
    const absl::StatusOr<FrameHeader> header = DecodeFrameHeader(frame.header);
    if (!header.ok() || header->epoch != epoch_ || header->payload_bytes != frame.payload.size()) {
      return std::optional<ReceivedDispatch>();
    }
    if (header->kind == FrameKind::kDispatch) {
      return std::optional<ReceivedDispatch>({*header, frame.payload});
    }
    if (header->kind == FrameKind::kHello) {
      FrameHeader ack;
      ack.kind = FrameKind::kHelloAck;
      ack.epoch = epoch_;
      ack.source = self_.value();
      SHEAF_RETURN_IF_ERROR(router_->Send(ack, {}));
      router_->out.SetReleased(router_->in.consumed());
    }
    return std::optional<ReceivedDispatch>();
  }

  static absl::Status Lost(const absl::Status& why) {
    return absl::UnavailableError(absl::StrFormat("router lost: %s", std::string(why.message())));
  }

  const Epoch epoch_;
  const WorkerId self_;
  std::unique_ptr<LinkEnd> end_;
  UniqueFd socket_;  // until the router's handshake is here; then the channel's
  LaneWriter lane_;
  std::optional<Channel> router_;
  bool closed_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerLink>> SharedMemoryTransport::NewWorkerLink(Epoch epoch,
                                                                                 WorkerId self) {
  auto link = std::make_unique<SharedMemoryWorkerLink>(epoch, self);
  SHEAF_RETURN_IF_ERROR(link->Open());
  return link;
}

}  // namespace sheaf
