#include "exchange/ucx/router_link.h"

#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/pending_combines.h"
#include "exchange/ucx/ucx_end.h"

namespace sheaf {
namespace {

class UcxRouterLink final : public RouterLink, private FrameSink {
 public:
  explicit UcxRouterLink(Epoch epoch) : epoch_(epoch), pending_(epoch) {}
  ~UcxRouterLink() override { Close(); }

  absl::Status Open(std::shared_ptr<UcxTransport::Context> context) {
    SHEAF_ASSIGN_OR_RETURN(end_, UcxEnd::Create(std::move(context), *this));
    return absl::OkStatus();
  }

  Epoch epoch() const override { return epoch_; }
  const std::string& address() const override { return end_->address(); }

  absl::Status Connect(std::span<const LinkPeer> peers, TimePoint deadline) override {
    FrameHeader hello;
    hello.epoch = epoch_;
    for (const LinkPeer& peer : peers) {
      const absl::Status added = end_->AddPeer(
          peer.worker.value(), absl::StrCat("worker ", peer.worker.value()), peer.address);
      if (!added.ok()) return Poison({added, {peer.worker}, true});
    }
    for (const LinkPeer& peer : peers) {
      const absl::Status sent = end_->Send(peer.worker.value(), hello, {});
      if (!sent.ok()) return Poison(FaultOf(sent));
    }
    const absl::Status greeted =
        end_->ProgressUntil([&] { return greeted_.size() == peers.size(); }, deadline);
    if (absl::IsDeadlineExceeded(greeted)) {
      LinkFault fault;
      for (const LinkPeer& peer : peers) {
        if (!greeted_.contains(peer.worker)) fault.suspects.push_back(peer.worker);
      }
      fault.status =
          absl::DeadlineExceededError(NameWorkers(fault.suspects) + " did not answer the hello");
      return Poison(std::move(fault));
    }
    if (!greeted.ok()) return Poison(FaultOf(greeted));
    return absl::OkStatus();
  }

  absl::Status Post(std::span<const Exchange> exchanges) override {
    if (!fault_.status.ok()) return fault_.status;
    for (const Exchange& exchange : exchanges) {
      if (absl::Status added = pending_.Add(exchange); !added.ok())
        return Poison({added, {}, true});
    }
    for (const Exchange& exchange : exchanges) {
      const absl::Status sent =
          end_->Send(exchange.worker.value(), exchange.dispatch, exchange.payload);
      if (!sent.ok()) return Poison(FaultOf(sent));
    }
    return absl::OkStatus();
  }

  absl::Status Wait(TimePoint deadline) override {
    if (!fault_.status.ok()) return fault_.status;
    const TimePoint start = std::chrono::steady_clock::now();
    const absl::Status status = end_->ProgressUntil(
        [&] { return !failed_.status.ok() || (pending_.empty() && end_->sends_in_flight() == 0); },
        deadline);
    if (!failed_.status.ok()) return Poison(failed_);
    if (absl::IsDeadlineExceeded(status) && end_->poison().ok()) {
      return Poison(pending_.Silent(std::chrono::steady_clock::now() - start));
    }
    if (!status.ok()) return Poison(FaultOf(status));
    pending_.Clear();
    return absl::OkStatus();
  }

  void Abort(absl::Status why) override { end_->Abort(std::move(why)); }

  void Close() override {
    if (end_ != nullptr) end_->Close();
    pending_.Clear();
    if (fault_.status.ok()) fault_.status = absl::FailedPreconditionError("the link is closed");
  }

  LinkFault fault() const override { return fault_; }
  std::string PathTo(WorkerId worker) const override { return end_->PathTo(worker.value()); }

 private:
  uint8_t* Accept(const FrameHeader& header, void** tag) override {
    static uint8_t nothing = 0;  // for frames without payload; never written
    if (header.epoch != epoch_) return nullptr;
    switch (header.kind) {
      case FrameKind::kHelloAck:
        return &nothing;
      case FrameKind::kCombine: {
        PendingCombines::Entry* entry = pending_.Match(header);
        *tag = entry;
        return entry == nullptr ? nullptr : entry->combine.data();
      }
      case FrameKind::kError: {
        if (pending_.Match(header) == nullptr) return nullptr;
        error_text_.resize(header.payload_bytes);
        return header.payload_bytes == 0 ? &nothing
                                         : reinterpret_cast<uint8_t*>(error_text_.data());
      }
      default:
        return nullptr;
    }
  }

  void Landed(const FrameHeader& header, void* tag, const absl::Status& status) override {
    const WorkerId worker(header.source);
    if (!status.ok()) {
      failed_ = {absl::UnavailableError(absl::StrFormat("worker %d lost: %s", header.source,
                                                        std::string(status.message()))),
                 {worker},
                 true};
    } else if (header.kind == FrameKind::kHelloAck) {
      greeted_.insert(worker);
    } else if (header.kind == FrameKind::kCombine) {
      pending_.Complete(*static_cast<PendingCombines::Entry*>(tag));
    } else if (header.kind == FrameKind::kError) {
      failed_ = {absl::InternalError(absl::StrFormat("worker %d: %s", header.source, error_text_)),
                 {worker},
                 true};
    }
  }

  LinkFault FaultOf(const absl::Status& status) const {
    LinkFault fault{status, {}, true};
    if (end_->lost_peer() >= 0) fault.suspects.push_back(WorkerId(end_->lost_peer()));
    return fault;
  }
  absl::Status Poison(LinkFault fault) {
    if (fault_.status.ok()) fault_ = std::move(fault);
    return fault_.status;
  }

  const Epoch epoch_;
  std::unique_ptr<UcxEnd> end_;
  std::set<WorkerId> greeted_;
  PendingCombines pending_;
  std::string error_text_;
  LinkFault failed_;  // seen inside progress
  LinkFault fault_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RouterLink>> NewUcxRouterLink(
    std::shared_ptr<UcxTransport::Context> context, Epoch epoch) {
  auto link = std::make_unique<UcxRouterLink>(epoch);
  SHEAF_RETURN_IF_ERROR(link->Open(std::move(context)));
  return link;
}

absl::StatusOr<std::unique_ptr<RouterLink>> UcxTransport::NewRouterLink(Epoch epoch) {
  return NewUcxRouterLink(context_, epoch);
}

}  // namespace sheaf
