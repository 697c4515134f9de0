#include "exchange/tcp/tcp_channel.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "exchange/tcp/tcp_socket.h"

namespace sheaf {
namespace {

constexpr size_t kInputBytes = 64 * 1024;
// Larger reads than this let other links wait.
constexpr int kReadsAtOnce = 16;
constexpr size_t kKeptBytes = size_t{256} << 20;
constexpr size_t kKeptBuffers = 16;

}  // namespace

absl::StatusOr<TcpMacs> TcpMacs::Of(const FrameKey& out, const FrameKey& in) {
  SHEAF_ASSIGN_OR_RETURN(FrameMac to_peer, FrameMac::Create(out));
  SHEAF_ASSIGN_OR_RETURN(FrameMac from_peer, FrameMac::Create(in));
  return TcpMacs{std::move(to_peer), std::move(from_peer)};
}

TcpChannel::TcpChannel(UniqueFd socket, LinkId link, const TcpLimits& limits,
                       std::optional<TcpMacs> macs, Bell& bell)
    : socket_(std::move(socket)),
      peer_(PeerName(socket_.get())),
      link_(link),
      limits_(limits),
      bell_(bell),
      input_(kInputBytes),
      macs_(std::move(macs)),
      head_bytes_(kFrameHeaderBytes + (macs_.has_value() ? kFrameTagBytes : 0)) {}

absl::Status TcpChannel::Join(std::shared_ptr<IoLoop> loop) {
  loop_ = std::move(loop);
  // The handler may run before Add returns; it waits for the token at the lock.
  absl::MutexLock lock(&mutex_);
  SHEAF_ASSIGN_OR_RETURN(token_, loop_->Add(socket_.get(), EPOLLIN | EPOLLRDHUP,
                                            std::shared_ptr<IoLoop::Handler>(
                                                std::shared_ptr<void>(), this)));
  return absl::OkStatus();
}

void TcpChannel::Leave() {
  IoLoop::Token token = 0;
  {
    absl::MutexLock lock(&mutex_);
    token = token_;
  }
  if (token != 0) loop_->Remove(token);
}

absl::Status TcpChannel::Failed(int error) const {
  return absl::UnavailableError(absl::StrFormat(
      "tcp %s: the peer is gone%s%s", peer_, error == 0 ? "" : ": ",
      error == 0 ? "" : std::strerror(error)));
}

void TcpChannel::BreakLocked(const absl::Status& why) {
  if (broken_.ok()) broken_ = why;
  // What the kernel has received can still be read; the peer sees the end.
  shutdown(socket_.get(), SHUT_RDWR);
}

void TcpChannel::EndReceiving(const absl::Status& why) {
  IoLoop::Token token = 0;
  {
    absl::MutexLock lock(&mutex_);
    BreakLocked(why);
    read_all_ = true;
    unsent_.clear();
    token = token_;
  }
  loop_->Remove(token);
  bell_.Ring();
}

void TcpChannel::SetEventsLocked() {
  loop_->SetEvents(token_, (paused_ ? 0u : uint32_t{EPOLLIN} | uint32_t{EPOLLRDHUP}) |
                               (unsent_.empty() ? 0u : uint32_t{EPOLLOUT}));
}

// --- Buffers.

ByteBuffer TcpChannel::TakeLocked(size_t bytes) {
  ByteBuffer best;
  // The smallest that is large enough; else none: growing one would touch fresh pages anyway.
  size_t at = kept_.size();
  for (size_t i = 0; i < kept_.size(); ++i) {
    if (kept_[i].capacity() < bytes) continue;
    if (at == kept_.size() || kept_[i].capacity() < kept_[at].capacity()) at = i;
  }
  if (at < kept_.size()) {
    kept_bytes_ -= kept_[at].capacity();
    best = std::move(kept_[at]);
    kept_.erase(kept_.begin() + static_cast<ptrdiff_t>(at));
  }
  return best;
}

void TcpChannel::KeepLocked(ByteBuffer buffer) {
  if (buffer.capacity() == 0 || kept_bytes_ + buffer.capacity() > kKeptBytes) return;
  if (kept_.size() == kKeptBuffers) {
    // A larger one serves more frames.
    const auto smallest =
        std::min_element(kept_.begin(), kept_.end(), [](const ByteBuffer& a, const ByteBuffer& b) {
          return a.capacity() < b.capacity();
        });
    if (smallest->capacity() >= buffer.capacity()) return;
    kept_bytes_ -= smallest->capacity();
    kept_.erase(smallest);
  }
  kept_bytes_ += buffer.capacity();
  kept_.push_back(std::move(buffer));
}

ByteBuffer TcpChannel::TakeBuffer(size_t bytes) {
  ByteBuffer buffer;
  {
    absl::MutexLock lock(&mutex_);
    buffer = TakeLocked(bytes);
  }
  buffer.Resize(bytes);
  return buffer;
}

// --- Sending.

absl::Status TcpChannel::MaySend(size_t bytes) {
  absl::MutexLock lock(&mutex_);
  SHEAF_RETURN_IF_ERROR(broken_);
  if (bytes <= limits_.max_frame_bytes && unsent_bytes_ <= limits_.max_unsent_bytes &&
      bytes <= limits_.max_unsent_bytes - unsent_bytes_)
    return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrFormat("tcp %s: no room for %d bytes beside %d unsent: wanted at most %d", peer_,
                      bytes, unsent_bytes_, limits_.max_unsent_bytes));
}

absl::Status TcpChannel::WriteSome(Unsent& frame) {
  while (frame.sent < frame.size()) {
    iovec pieces[2];
    int count = 0;
    size_t at = frame.sent;
    if (at < frame.head_bytes) {
      pieces[count++] = {frame.head.data() + at, frame.head_bytes - at};
      at = frame.head_bytes;
    }
    if (at < frame.size())
      pieces[count++] = {frame.payload.data() + (at - frame.head_bytes), frame.size() - at};
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = static_cast<size_t>(count);
    const ssize_t written = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS))
      return absl::OkStatus();
    if (written < 0) return Failed(errno);
    frame.sent += static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status TcpChannel::Send(const FrameHeader& header, ByteBuffer payload) {
  Unsent frame;
  frame.head_bytes = head_bytes_;
  frame.payload = std::move(payload);
  frame.payload_bytes = header.payload_bytes;
  const FrameHeaderBytes bytes = EncodeFrameHeader(header);
  std::copy(bytes.begin(), bytes.end(), frame.head.begin());
  if (macs_.has_value()) {
    macs_->out.Begin(bytes);
    macs_->out.Add({frame.payload.data(), frame.payload_bytes});
    const FrameTag tag = macs_->out.Finish();
    std::copy(tag.begin(), tag.end(), frame.head.begin() + kFrameHeaderBytes);
  }
  absl::MutexLock lock(&mutex_);
  SHEAF_RETURN_IF_ERROR(broken_);
  if (unsent_.empty()) {
    if (absl::Status status = WriteSome(frame); !status.ok()) {
      BreakLocked(status);  // the loop reads what has arrived and then says so in Next
      return status;
    }
    if (frame.sent == frame.size()) {
      KeepLocked(std::move(frame.payload));
      return absl::OkStatus();
    }
  }
  unsent_bytes_ += frame.size();
  unsent_.push_back(std::move(frame));
  if (unsent_.size() == 1) SetEventsLocked();
  return absl::OkStatus();
}

absl::Status TcpChannel::WriteUnsent() {
  while (!unsent_.empty()) {
    Unsent& frame = unsent_.front();
    SHEAF_RETURN_IF_ERROR(WriteSome(frame));
    if (frame.sent < frame.size()) return absl::OkStatus();
    unsent_bytes_ -= frame.size();
    KeepLocked(std::move(frame.payload));
    unsent_.pop_front();
  }
  SetEventsLocked();
  return absl::OkStatus();
}

// --- Receiving.

void TcpChannel::OnReady(IoLoop::Token /*self*/, uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    absl::MutexLock lock(&mutex_);
    if (const absl::Status status = WriteUnsent(); !status.ok()) BreakLocked(status);
  }
  // A connection that has ended is read to its end, whatever is unread: it is what the kernel had.
  const bool ended = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if (ended || (events & (EPOLLIN | EPOLLRDHUP)) != 0) Receive(ended);
}

bool TcpChannel::MayReceive() {
  absl::MutexLock lock(&mutex_);
  if (unread_frames_ < limits_.max_unread_frames && unread_bytes_ < limits_.max_unread_bytes)
    return true;
  if (!paused_) {
    paused_ = true;
    SetEventsLocked();
  }
  return false;
}

void TcpChannel::Receive(bool to_the_end) {
  for (int round = 0; to_the_end || round < kReadsAtOnce; ++round) {
    if (!to_the_end && !MayReceive()) return;
    // A long payload is read to where it stays; headers and short ones pass through input_, so that
    // a small frame costs one call.
    const size_t left = head_have_ == head_bytes_ ? header_.payload_bytes - payload_have_ : 0;
    const bool straight = left >= kInputBytes;
    uint8_t* const to = straight ? payload_.data() + payload_have_ : input_.data();
    const size_t wanted = straight ? left : kInputBytes;
    const ssize_t got = recv(socket_.get(), to, wanted, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got <= 0) return EndReceiving(Failed(got == 0 ? 0 : errno));
    const auto count = static_cast<size_t>(got);
    absl::Status taken;
    if (!straight) {
      taken = Consume({input_.data(), count});
    } else {
      GotPayload({to, count});
      if (payload_have_ == header_.payload_bytes) taken = Deliver();
    }
    if (!taken.ok()) return EndReceiving(taken);
    if (count < wanted && !to_the_end) return;  // the kernel has no more for now
  }
}

absl::Status TcpChannel::Consume(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    if (head_have_ < head_bytes_) {
      const size_t count = std::min(bytes.size(), head_bytes_ - head_have_);
      std::memcpy(head_.data() + head_have_, bytes.data(), count);
      head_have_ += count;
      bytes = bytes.subspan(count);
      if (head_have_ < head_bytes_) break;
      SHEAF_RETURN_IF_ERROR(BeginPayload());
    } else {
      const size_t count =
          std::min<size_t>(bytes.size(), header_.payload_bytes - payload_have_);
      std::memcpy(payload_.data() + payload_have_, bytes.data(), count);
      GotPayload(bytes.first(count));
      bytes = bytes.subspan(count);
    }
    if (payload_have_ == header_.payload_bytes) {
      SHEAF_RETURN_IF_ERROR(Deliver());
    }
  }
  return absl::OkStatus();
}

// While it is still in the cache.
void TcpChannel::GotPayload(std::span<const uint8_t> bytes) {
  if (macs_.has_value()) macs_->in.Add(bytes);
  payload_have_ += bytes.size();
}

absl::Status TcpChannel::Nonsense(const std::string& what) const {
  const std::string text = absl::StrFormat("tcp %s: %s", peer_, what);
  // A peer that knows the key writes none: somebody changed it on the way.
  if (macs_.has_value()) return absl::UnauthenticatedError(text);
  return absl::InvalidArgumentError(text);
}

absl::Status TcpChannel::BeginPayload() {
  const std::span<const uint8_t> bytes(head_.data(), kFrameHeaderBytes);
  absl::StatusOr<FrameHeader> header = DecodeFrameHeader(bytes);
  if (!header.ok()) return Nonsense(std::string(header.status().message()));
  if (macs_.has_value()) macs_->in.Begin(bytes);
  header_ = *header;
  if (header_.payload_bytes > limits_.max_frame_bytes) {
    return Nonsense(absl::StrFormat("%s: wanted at most %d bytes of payload, got %d",
                                    Describe(header_), limits_.max_frame_bytes,
                                    header_.payload_bytes));
  }
  payload_have_ = 0;
  try {
    payload_ = TakeBuffer(header_.payload_bytes);
  } catch (const std::bad_alloc&) {
    return absl::UnavailableError(absl::StrFormat("tcp %s: %s: no memory for %d bytes", peer_,
                                                  Describe(header_), header_.payload_bytes));
  }
  return absl::OkStatus();
}

absl::Status TcpChannel::Deliver() {
  if (macs_.has_value() &&
      !SameBytes(macs_->in.Finish(), {head_.data() + kFrameHeaderBytes, kFrameTagBytes})) {
    return absl::UnauthenticatedError(absl::StrFormat(
        "tcp %s: %s: its tag is wrong: changed on the way, or not of this link", peer_,
        Describe(header_)));
  }
  head_have_ = 0;
  payload_have_ = 0;
  const bool of_this_link = header_.link == link_;
  {
    absl::MutexLock lock(&mutex_);
    if (of_this_link) {
      ++unread_frames_;
      unread_bytes_ += payload_.size();
      arrived_.push_back({header_, std::move(payload_)});
    } else {
      KeepLocked(std::move(payload_));  // of another life: void
    }
  }
  payload_ = ByteBuffer();
  header_.payload_bytes = 0;
  if (of_this_link) bell_.Ring();
  return absl::OkStatus();
}

absl::StatusOr<std::optional<TcpChannel::Arrived>> TcpChannel::Next() {
  absl::MutexLock lock(&mutex_);
  if (!arrived_.empty()) {
    Arrived frame = std::move(arrived_.front());
    arrived_.pop_front();
    return std::optional<Arrived>(std::move(frame));
  }
  if (read_all_) return broken_;
  return std::optional<Arrived>();
}

void TcpChannel::Release(std::vector<ByteBuffer>& payloads) {
  if (payloads.empty()) return;
  absl::MutexLock lock(&mutex_);
  unread_frames_ -= payloads.size();
  for (ByteBuffer& payload : payloads) {
    unread_bytes_ -= payload.size();
    KeepLocked(std::move(payload));
  }
  payloads.clear();
  if (paused_) {
    paused_ = false;
    if (!read_all_) SetEventsLocked();
  }
}

}  // namespace sheaf
