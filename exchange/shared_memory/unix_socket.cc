#include "exchange/shared_memory/unix_socket.h"

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

constexpr size_t kNameBytes = 32;  // hexadecimal digits of 128 bits
constexpr char kScheme[] = "shm:";
constexpr int kBacklog = 1024;

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

absl::Status SendMessage(int socket, std::span<const uint8_t> bytes, int lane, int bell) {
  iovec piece{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  const int descriptors[2] = {lane, bell};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(descriptors))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (lane >= 0 && bell >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(descriptors));
    std::memcpy(CMSG_DATA(header), descriptors, sizeof(descriptors));
  }
  // A socket of its own with one message: it cannot be full.
  if (sendmsg(socket, &message, MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size()))
    return PeerError("hello");
  return absl::OkStatus();
}

absl::StatusOr<std::optional<ReceivedMessage>> ReceiveMessage(int socket,
                                                              std::span<uint8_t> bytes) {
  iovec piece{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::optional<ReceivedMessage>();
  if (got < 0) return PeerError("hello");

  // First of all: the descriptors have an owner.
  ReceivedMessage received;
  size_t descriptors = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i, ++descriptors) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      UniqueFd owned(fd);
      if (descriptors == 0) received.lane = std::move(owned);
      if (descriptors == 1) received.bell = std::move(owned);
    }
  }
  if (got == 0) return absl::UnavailableError("the peer hung up during the hello");
  if (static_cast<size_t>(got) != bytes.size() || (descriptors != 0 && descriptors != 2) ||
      (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("not a hello: %d bytes, %d descriptors: wanted %d bytes, 2 descriptors",
                        got, descriptors, bytes.size()));
  }
  return std::optional<ReceivedMessage>(std::move(received));
}

}  // namespace sheaf
