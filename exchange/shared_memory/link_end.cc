#include "exchange/shared_memory/link_end.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {

absl::StatusOr<Channel> Channel::Open(UniqueFd socket, LaneWriter out, Handshake from_peer) {
  Channel channel;
  channel.socket = std::move(socket);
  channel.out = std::move(out);
  SHEAF_ASSIGN_OR_RETURN(channel.in, LaneReader::Map(std::move(from_peer.lane)));
  SHEAF_ASSIGN_OR_RETURN(channel.bell_memory,
                         MappedFile::Map(std::move(from_peer.doorbell), kDoorbellBytes,
                                         MappedFile::Access::kReadWrite));
  channel.bell = Doorbell(channel.bell_memory.data());
  return channel;
}

absl::Status Channel::Send(const FrameHeader& header, std::span<const uint8_t> payload) {
  absl::StatusOr<std::span<uint8_t>> to = out.Reserve(payload.size(), in.peer_released());
  if (!to.ok()) return absl::UnavailableError(to.status().message());
  if (!payload.empty()) std::memcpy(to->data(), payload.data(), payload.size());
  out.Publish(header);
  bell.Ring();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<LinkEnd>> LinkEnd::Create() {
  std::unique_ptr<LinkEnd> end(new LinkEnd);
  SHEAF_ASSIGN_OR_RETURN(end->self_, SharedMemoryAddress::New());
  end->address_ = end->self_.ToString();
  SHEAF_ASSIGN_OR_RETURN(end->bell_memory_, MemoryFile::Create("sheaf-doorbell", kDoorbellBytes));
  end->bell_ = Doorbell(end->bell_memory_.data());
  end->abort_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!end->abort_.valid()) {
    return absl::ResourceExhaustedError(absl::StrFormat("eventfd: %s", std::strerror(errno)));
  }
  return end;
}

absl::Status LinkEnd::WaitUntil(absl::FunctionRef<absl::StatusOr<bool>()> advance,
                                TimePoint deadline) {
  for (;;) {
    // Both before looking: what happens after shows up as a ring.
    const uint32_t seen = bell_.rings();
    const bool somebody_broke = num_broken_.load(std::memory_order_acquire) != 0;
    if (is_aborted_.load(std::memory_order_acquire)) return aborted();
    SHEAF_ASSIGN_OR_RETURN(const bool done, advance());
    if (done) return absl::OkStatus();
    if (somebody_broke) return absl::UnavailableError("its end of the link is gone");
    if (std::chrono::steady_clock::now() >= deadline) {
      return absl::DeadlineExceededError("nothing arrived");
    }
    bell_.WaitPast(seen, deadline);
  }
}

absl::Status LinkEnd::WaitReadable(const std::vector<int>& sockets, TimePoint deadline) {
  if (is_aborted_.load(std::memory_order_acquire)) return aborted();
  std::vector<pollfd> descriptors{{abort_.get(), POLLIN, 0}};
  for (const int socket : sockets) descriptors.push_back({socket, POLLIN, 0});
  const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::max(deadline - std::chrono::steady_clock::now(), Duration::zero()));
  const timespec timeout{static_cast<time_t>(left.count() / 1'000'000'000),
                         static_cast<long>(left.count() % 1'000'000'000)};
  const int ready = ppoll(descriptors.data(), descriptors.size(), &timeout, nullptr);
  if (is_aborted_.load(std::memory_order_acquire)) return aborted();
  if (ready == 0) return absl::DeadlineExceededError("nothing arrived");
  if (ready < 0 && errno != EINTR) {
    return absl::InternalError(absl::StrFormat("ppoll: %s", std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status LinkEnd::StartWatch(std::vector<int> sockets) {
  SHEAF_ASSIGN_OR_RETURN(watch_, PeerWatch::Start(std::move(sockets), [this](size_t index) {
                           {
                             std::lock_guard lock(mutex_);
                             broken_.push_back(index);
                           }
                           num_broken_.fetch_add(1, std::memory_order_release);
                           bell_.Ring();
                         }));
  return absl::OkStatus();
}

std::vector<size_t> LinkEnd::Broken() const {
  std::lock_guard lock(mutex_);
  return broken_;
}

void LinkEnd::Abort(absl::Status why) {
  {
    std::lock_guard lock(mutex_);
    if (aborted_.ok()) aborted_ = std::move(why);
  }
  is_aborted_.store(true, std::memory_order_release);
  const uint64_t one = 1;
  // It cannot fail but by a full counter, and then the reader is awake already.
  [[maybe_unused]] const ssize_t written = write(abort_.get(), &one, sizeof(one));
  bell_.Ring();
}

absl::Status LinkEnd::aborted() const {
  std::lock_guard lock(mutex_);
  return aborted_;
}

}  // namespace sheaf
