#include "exchange/tcp/tcp_link.h"

#include <new>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<TcpLink>> TcpLink::Open(std::shared_ptr<IoLoop> loop,
                                                       UniqueFd socket, LinkId id,
                                                       const TcpLimits& limits,
                                                       std::optional<TcpMacs> macs, Bell& bell,
                                                       LinkPlace place) {
  std::unique_ptr<TcpLink> link(
      new TcpLink(std::move(socket), id, limits, std::move(macs), bell, std::move(place)));
  SHEAF_RETURN_IF_ERROR(link->channel_.Join(std::move(loop)));
  return link;
}

TcpLink::~TcpLink() { channel_.Leave(); }

absl::StatusOr<std::span<uint8_t>> TcpLink::Reserve(size_t bytes) {
  SHEAF_RETURN_IF_ERROR(channel_.MaySend(bytes));
  try {
    if (reserved_.capacity() < bytes) reserved_ = channel_.TakeBuffer(bytes);
    reserved_.Resize(bytes);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: no memory for %d bytes", path(), bytes));
  }
  return reserved_.bytes();
}

absl::Status TcpLink::Send(FrameHeader header) {
  SHEAF_CHECK(header.payload_bytes <= reserved_.size(), "a frame is reserved before it is sent");
  SHEAF_RETURN_IF_ERROR(channel_.MaySend(header.payload_bytes));
  header.link = id_;
  return channel_.Send(header, std::move(reserved_));
}

absl::StatusOr<std::optional<ArrivedFrame>> TcpLink::Next() {
  SHEAF_ASSIGN_OR_RETURN(std::optional<TcpChannel::Arrived> arrived, channel_.Next());
  if (!arrived.has_value()) return std::optional<ArrivedFrame>();
  taken_.push_back(std::move(arrived->payload));
  return std::optional<ArrivedFrame>({arrived->header, taken_.back().bytes()});
}

void TcpLink::Release() { channel_.Release(taken_); }

}  // namespace sheaf
