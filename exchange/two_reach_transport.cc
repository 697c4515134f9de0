#include "exchange/two_reach_transport.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

struct TwoAddresses {
  std::string host;
  std::string near_address;
  std::string far_address;

  std::string Encode() const {
    std::string bytes;
    for (const std::string* piece : {&host, &near_address}) {
      const uint32_t size = static_cast<uint32_t>(piece->size());
      bytes.append(reinterpret_cast<const char*>(&size), sizeof(size));
      bytes.append(*piece);
    }
    return bytes + far_address;
  }

  static absl::StatusOr<TwoAddresses> Decode(const std::string& bytes) {
    TwoAddresses addresses;
    size_t at = 0;
    for (std::string* piece : {&addresses.host, &addresses.near_address}) {
      uint32_t size = 0;
      if (bytes.size() - at < sizeof(size)) return Malformed(bytes);
      std::memcpy(&size, bytes.data() + at, sizeof(size));
      at += sizeof(size);
      if (bytes.size() - at < size) return Malformed(bytes);
      *piece = bytes.substr(at, size);
      at += size;
    }
    addresses.far_address = bytes.substr(at);
    return addresses;
  }

  static absl::Status Malformed(const std::string& bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("data-plane address of %d bytes ends early", bytes.size()));
  }
};

bool IsNear(const std::string& host, const TwoAddresses& peer) {
  return !host.empty() && host == peer.host;
}

class TwoReachRouterLink final : public RouterLink {
 public:
  TwoReachRouterLink(std::string host, std::unique_ptr<RouterLink> near_link,
                     std::unique_ptr<RouterLink> far_link)
      : host_(std::move(host)),
        near_(std::move(near_link)),
        far_(std::move(far_link)),
        address_(TwoAddresses{host_, near_->address(), far_->address()}.Encode()) {}

  Epoch epoch() const override { return near_->epoch(); }
  const std::string& address() const override { return address_; }

  absl::Status Connect(std::span<const LinkPeer> peers, TimePoint deadline) override {
    std::vector<LinkPeer> near_peers, far_peers;
    for (const LinkPeer& peer : peers) {
      const absl::StatusOr<TwoAddresses> at = TwoAddresses::Decode(peer.address);
      if (!at.ok()) {
        unreachable_ = {at.status(), {peer.worker}, true};
        return at.status();
      }
      if (IsNear(host_, *at)) {
        near_workers_.push_back(peer.worker);
        near_peers.push_back({peer.worker, at->near_address});
      } else {
        far_peers.push_back({peer.worker, at->far_address});
      }
    }
    has_near_ = !near_peers.empty();
    has_far_ = !far_peers.empty();
    if (has_far_) SHEAF_RETURN_IF_ERROR(far_->Connect(far_peers, deadline));
    if (has_near_) SHEAF_RETURN_IF_ERROR(near_->Connect(near_peers, deadline));
    // What an unused end holds (memory, threads, a listening socket) is not needed any more.
    if (!has_far_) far_->Close();
    if (!has_near_) near_->Close();
    return absl::OkStatus();
  }

  absl::Status Post(std::span<const Exchange> exchanges) override {
    if (!has_far_) return near_->Post(exchanges);
    if (!has_near_) return far_->Post(exchanges);
    std::vector<Exchange> near_exchanges, far_exchanges;
    for (const Exchange& exchange : exchanges) {
      (IsNearWorker(exchange.worker) ? near_exchanges : far_exchanges).push_back(exchange);
    }
    SHEAF_RETURN_IF_ERROR(far_->Post(far_exchanges));
    return near_->Post(near_exchanges);
  }

  absl::Status Wait(TimePoint deadline) override {
    if (has_far_) SHEAF_RETURN_IF_ERROR(far_->Wait(deadline));
    return has_near_ ? near_->Wait(deadline) : absl::OkStatus();
  }

  void Abort(absl::Status why) override {
    near_->Abort(why);
    far_->Abort(std::move(why));
  }

  void Close() override {
    near_->Close();
    far_->Close();
  }

  LinkFault fault() const override {
    if (!unreachable_.status.ok()) return unreachable_;
    // An unused end was closed, which is no fault of the link.
    if (has_far_ && !far_->fault().status.ok()) return far_->fault();
    if (has_near_ && !near_->fault().status.ok()) return near_->fault();
    return {};
  }

  std::string PathTo(WorkerId worker) const override {
    return IsNearWorker(worker) ? near_->PathTo(worker) : far_->PathTo(worker);
  }

 private:
  bool IsNearWorker(WorkerId worker) const {
    return std::find(near_workers_.begin(), near_workers_.end(), worker) != near_workers_.end();
  }

  const std::string host_;
  const std::unique_ptr<RouterLink> near_;
  const std::unique_ptr<RouterLink> far_;
  const std::string address_;
  std::vector<WorkerId> near_workers_;
  bool has_near_ = false;
  bool has_far_ = false;
  LinkFault unreachable_;
};

class TwoReachWorkerLink final : public WorkerLink {
 public:
  TwoReachWorkerLink(std::string host, std::unique_ptr<WorkerLink> near_link,
                     std::unique_ptr<WorkerLink> far_link)
      : host_(std::move(host)),
        near_(std::move(near_link)),
        far_(std::move(far_link)),
        used_(near_.get()),
        address_(TwoAddresses{host_, near_->address(), far_->address()}.Encode()) {}

  Epoch epoch() const override { return near_->epoch(); }
  const std::string& address() const override { return address_; }

  absl::Status Connect(const std::string& router_address) override {
    SHEAF_ASSIGN_OR_RETURN(const TwoAddresses router, TwoAddresses::Decode(router_address));
    if (IsNear(host_, router)) {
      far_->Close();
      return used_->Connect(router.near_address);
    }
    used_ = far_.get();
    near_->Close();
    return used_->Connect(router.far_address);
  }

  absl::StatusOr<ReceivedDispatch> Receive(TimePoint deadline) override {
    return used_->Receive(deadline);
  }
  absl::StatusOr<std::span<uint8_t>> ReplyBuffer(size_t bytes) override {
    return used_->ReplyBuffer(bytes);
  }
  absl::Status Reply(const FrameHeader& header) override { return used_->Reply(header); }

  void Abort(absl::Status why) override {
    near_->Abort(why);
    far_->Abort(std::move(why));
  }
  void Close() override {
    near_->Close();
    far_->Close();
  }

 private:
  const std::string host_;
  const std::unique_ptr<WorkerLink> near_;
  const std::unique_ptr<WorkerLink> far_;
  WorkerLink* used_;  // near_ until Connect
  const std::string address_;
};

}  // namespace

TwoReachTransport::TwoReachTransport(std::string host, std::unique_ptr<Transport> near_transport,
                                     std::unique_ptr<Transport> far_transport)
    : host_(std::move(host)), near_(std::move(near_transport)), far_(std::move(far_transport)) {}

absl::StatusOr<std::unique_ptr<RouterLink>> TwoReachTransport::NewRouterLink(Epoch epoch) {
  SHEAF_ASSIGN_OR_RETURN(auto near_link, near_->NewRouterLink(epoch));
  SHEAF_ASSIGN_OR_RETURN(auto far_link, far_->NewRouterLink(epoch));
  return std::make_unique<TwoReachRouterLink>(host_, std::move(near_link), std::move(far_link));
}

absl::StatusOr<std::unique_ptr<WorkerLink>> TwoReachTransport::NewWorkerLink(Epoch epoch,
                                                                             WorkerId self) {
  SHEAF_ASSIGN_OR_RETURN(auto near_link, near_->NewWorkerLink(epoch, self));
  SHEAF_ASSIGN_OR_RETURN(auto far_link, far_->NewWorkerLink(epoch, self));
  return std::make_unique<TwoReachWorkerLink>(host_, std::move(near_link), std::move(far_link));
}

}  // namespace sheaf
