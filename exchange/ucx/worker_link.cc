#include "exchange/ucx/worker_link.h"

#include <deque>
#include <utility>

#include "base/status.h"
#include "exchange/byte_buffer.h"
#include "exchange/ucx/ucx_end.h"

namespace sheaf {
namespace {

constexpr int32_t kRouter = 0;
// A router has one dispatch in flight; more than this is not ours.
constexpr size_t kMaxWaiting = 16;

class UcxWorkerLink final : public WorkerLink, private FrameSink {
 public:
  UcxWorkerLink(Epoch epoch, WorkerId self) : epoch_(epoch), self_(self) {}
  ~UcxWorkerLink() override { Close(); }

  absl::Status Open(std::shared_ptr<UcxTransport::Context> context) {
    SHEAF_ASSIGN_OR_RETURN(end_, UcxEnd::Create(std::move(context), *this));
    return absl::OkStatus();
  }

  Epoch epoch() const override { return epoch_; }
  const std::string& address() const override { return end_->address(); }

  absl::Status Connect(const std::string& router_address) override {
    SHEAF_RETURN_IF_ERROR(end_->AddPeer(kRouter, "router", router_address));
    connected_ = true;
    return absl::OkStatus();
  }

  absl::StatusOr<ReceivedDispatch> Receive(TimePoint deadline) override {
    if (current_ != nullptr) {
      free_.push_back(std::move(current_));
    }
    for (;;) {
      // Also the last Reply's send: its buffer is the caller's again when this returns.
      SHEAF_RETURN_IF_ERROR(end_->ProgressUntil(
          [&] {
            return to_greet_ ||
                   (!waiting_.empty() && waiting_.front()->landed && end_->sends_in_flight() == 0);
          },
          deadline));
      if (to_greet_) {
        to_greet_ = false;
        FrameHeader ack;
        ack.kind = FrameKind::kHelloAck;
        ack.epoch = epoch_;
        ack.source = self_.value();
        SHEAF_RETURN_IF_ERROR(end_->Send(kRouter, ack, {}));
        continue;
      }
      current_ = std::move(waiting_.front());
      waiting_.pop_front();
      if (!current_->status.ok()) return current_->status;
      return ReceivedDispatch{current_->header, current_->payload.bytes()};
    }
  }

  absl::StatusOr<std::span<uint8_t>> ReplyBuffer(size_t bytes) override {
    // Receive has seen the last reply's send end.
    reply_.Resize(bytes);
    return reply_.bytes();
  }

  absl::Status Reply(const FrameHeader& header) override {
    return end_->Send(kRouter, header, reply_.bytes());
  }

  void Abort(absl::Status why) override { end_->Abort(std::move(why)); }
  void Close() override {
    if (end_ != nullptr) end_->Close();
  }

 private:
  struct Dispatch {
    FrameHeader header;
    ByteBuffer payload;
    absl::Status status;
    bool landed = false;
  };

  uint8_t* Accept(const FrameHeader& header, void** tag) override {
    static uint8_t nothing = 0;  // for frames without payload; never written
    if (header.epoch != epoch_ || !connected_) return nullptr;
    if (header.kind == FrameKind::kHello) return &nothing;
    if (header.kind != FrameKind::kDispatch || header.payload_bytes == 0 ||
        waiting_.size() >= kMaxWaiting) {
      return nullptr;
    }
    std::unique_ptr<Dispatch> dispatch;
    if (free_.empty()) {
      dispatch = std::make_unique<Dispatch>();
    } else {
      dispatch = std::move(free_.back());
      free_.pop_back();
    }
    dispatch->header = header;
    dispatch->status = absl::OkStatus();
    dispatch->landed = false;
    uint8_t* to = dispatch->payload.Resize(header.payload_bytes);
    *tag = dispatch.get();
    waiting_.push_back(std::move(dispatch));
    return to;
  }

  void Landed(const FrameHeader& header, void* tag, const absl::Status& status) override {
    if (header.kind == FrameKind::kHello) {
      to_greet_ = true;
      return;
    }
    auto* dispatch = static_cast<Dispatch*>(tag);
    dispatch->status = status;
    dispatch->landed = true;
  }

  const Epoch epoch_;
  const WorkerId self_;
  std::unique_ptr<UcxEnd> end_;
  bool connected_ = false;
  bool to_greet_ = false;
  std::deque<std::unique_ptr<Dispatch>> waiting_;  // in order of arrival
  std::unique_ptr<Dispatch> current_;              // handed out by Receive
  std::vector<std::unique_ptr<Dispatch>> free_;
  ByteBuffer reply_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerLink>> NewUcxWorkerLink(
    std::shared_ptr<UcxTransport::Context> context, Epoch epoch, WorkerId self) {
  auto link = std::make_unique<UcxWorkerLink>(epoch, self);
  SHEAF_RETURN_IF_ERROR(link->Open(std::move(context)));
  return link;
}

absl::StatusOr<std::unique_ptr<WorkerLink>> UcxTransport::NewWorkerLink(Epoch epoch,
                                                                        WorkerId self) {
  return NewUcxWorkerLink(context_, epoch, self);
}

}  // namespace sheaf
