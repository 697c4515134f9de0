#include "exchange/shared_memory/handshake.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr uint32_t kMagic = 0x50465348;  // "HSFP"
constexpr uint32_t kVersion = 1;
constexpr size_t kNameBytes = 32;  // hexadecimal digits of 128 bits
constexpr char kScheme[] = "shm:";
constexpr int kBacklog = 1024;

struct WireHandshake {
  uint32_t magic = kMagic;
  uint32_t version = kVersion;
  uint64_t epoch = 0;
  int32_t worker = 0;
  char name[kNameBytes] = {};
};

absl::Status PeerError(const char* what) {
  return absl::UnavailableError(absl::StrFormat("%s: %s", what, std::strerror(errno)));
}

sockaddr_un AbstractAddress(const std::string& name, socklen_t* bytes) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "sheaf-" + name;  // after a zero byte: the abstract namespace
  std::memcpy(address.sun_path + 1, path.data(), path.size());
  *bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
  return address;
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.valid()) return socket;
  return absl::ResourceExhaustedError(absl::StrFormat("socket: %s", std::strerror(errno)));
}

bool IsName(const std::string& text) {
  return text.size() == kNameBytes &&
         text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

std::string HostIdentity() {
  std::string boot;
  struct stat network {};
  if (!std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot)) return "";
  if (stat("/proc/self/ns/net", &network) != 0) return "";
  return absl::StrFormat("%s/%d", boot, network.st_ino);
}

std::string SharedMemoryAddress::ToString() const {
  return absl::StrFormat("%s%s:%s", kScheme, host, name);
}

absl::StatusOr<SharedMemoryAddress> SharedMemoryAddress::Parse(const std::string& text) {
  const size_t end_of_host = text.rfind(':');
  if (text.rfind(kScheme, 0) == 0 && end_of_host >= sizeof(kScheme)) {
    SharedMemoryAddress address{text.substr(sizeof(kScheme) - 1, end_of_host - sizeof(kScheme) + 1),
                                text.substr(end_of_host + 1)};
    if (IsName(address.name)) return address;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "shared-memory address: wanted shm:HOST:NAME with %d hexadecimal digits, got \"%s\"",
      kNameBytes, text.substr(0, 128)));
}

absl::StatusOr<SharedMemoryAddress> SharedMemoryAddress::New() {
  std::array<uint8_t, kNameBytes / 2> random{};
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return absl::InternalError(absl::StrFormat("getrandom: %s", std::strerror(errno)));
  }
  SharedMemoryAddress address{HostIdentity(), ""};
  for (const uint8_t byte : random) address.name += absl::StrFormat("%02x", byte);
  return address;
}

absl::StatusOr<UniqueFd> ListenAt(const std::string& name) {
  absl::StatusOr<UniqueFd> socket = NewSocket();
  if (!socket.ok()) return socket;
  socklen_t bytes = 0;
  const sockaddr_un address = AbstractAddress(name, &bytes);
  if (bind(socket->get(), reinterpret_cast<const sockaddr*>(&address), bytes) != 0) {
    return PeerError("bind");
  }
  if (listen(socket->get(), kBacklog) != 0) return PeerError("listen");
  return socket;
}

absl::StatusOr<UniqueFd> ConnectTo(const std::string& name) {
  absl::StatusOr<UniqueFd> socket = NewSocket();
  if (!socket.ok()) return socket;
  socklen_t bytes = 0;
  const sockaddr_un address = AbstractAddress(name, &bytes);
  // Within a host this succeeds or fails at once.
  if (connect(socket->get(), reinterpret_cast<const sockaddr*>(&address), bytes) != 0) {
    return PeerError("connect");
  }
  return socket;
}

absl::StatusOr<std::optional<UniqueFd>> AcceptFrom(int listening) {
  const int socket = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (socket >= 0) return std::optional<UniqueFd>(UniqueFd(socket));
  if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return std::optional<UniqueFd>();
  return absl::ResourceExhaustedError(absl::StrFormat("accept: %s", std::strerror(errno)));
}

absl::Status SendHandshake(int socket, const Handshake& handshake, int lane, int doorbell) {
  WireHandshake wire;
  wire.epoch = handshake.epoch.value();
  wire.worker = handshake.worker.value();
  std::memcpy(wire.name, handshake.name.data(), std::min(handshake.name.size(), kNameBytes));
  iovec piece{&wire, sizeof(wire)};
  const int descriptors[2] = {lane, doorbell};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(descriptors))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(descriptors));
  std::memcpy(CMSG_DATA(header), descriptors, sizeof(descriptors));
  // A socket of its own with one message: it cannot be full.
  if (sendmsg(socket, &message, MSG_NOSIGNAL) != sizeof(wire)) return PeerError("handshake");
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Handshake>> ReceiveHandshake(int socket) {
  WireHandshake wire;
  iovec piece{&wire, sizeof(wire)};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t bytes = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return std::optional<Handshake>();
  if (bytes < 0) return PeerError("handshake");
  if (bytes == 0) return absl::UnavailableError("its end of the link is gone");

  // First of all: the descriptors have an owner.
  Handshake handshake;
  size_t descriptors = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i, ++descriptors) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      UniqueFd owned(fd);
      if (descriptors == 0) handshake.lane = std::move(owned);
      if (descriptors == 1) handshake.doorbell = std::move(owned);
    }
  }
  const std::string name(wire.name, kNameBytes);
  if (bytes != sizeof(wire) || wire.magic != kMagic || wire.version != kVersion ||
      descriptors != 2 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || !IsName(name)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "not a handshake of this version: %d bytes, version %d, %d descriptors: wanted %d, %d, 2",
        bytes, wire.version, descriptors, sizeof(wire), kVersion));
  }
  handshake.epoch = Epoch(wire.epoch);
  handshake.worker = WorkerId(wire.worker);
  handshake.name = name;
  return std::optional<Handshake>(std::move(handshake));
}

}  // namespace sheaf
