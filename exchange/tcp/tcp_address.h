#pragma once
// TcpAddress: "tcp:10.0.0.2:7001" or "tcp:[fd00::2]:7001", as it travels over the control plane.
// Numbers only: no name is ever looked up here, and nothing a peer writes is believed to be one.
//
// Threads    pure, but AddressOfInterface asks the kernel.
// Errors     kInvalidArgument naming wanted and got on one line.

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "absl/status/statusor.h"

namespace sheaf {

// An IPv4 or IPv6 address and a port, as the kernel takes it.
struct TcpAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;

  // "10.0.0.2" or "fd00::2", with or without brackets; an IPv6 one may name its interface (%eth0).
  static absl::StatusOr<TcpAddress> FromHost(const std::string& host, int port);
  static absl::StatusOr<TcpAddress> Parse(const std::string& text);
  // The address that a socket is bound to.
  static absl::StatusOr<TcpAddress> OfSocket(int socket);

  int family() const { return storage.ss_family; }
  int port() const;
  bool is_wildcard() const;
  std::string host() const;      // without brackets
  std::string ToString() const;  // "tcp:.."
  std::string HostPort() const;  // "10.0.0.2:7001"
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// The first address of that family (AF_INET or AF_INET6) of an interface by its name, for
// TcpOptions::host and source_host.
absl::StatusOr<std::string> AddressOfInterface(const std::string& interface_name, int family);

}  // namespace sheaf
