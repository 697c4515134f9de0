#include "exchange/tcp/tcp_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/one_line.h"

namespace sheaf {
namespace {

constexpr char kScheme[] = "tcp:";
constexpr size_t kShownBytes = 128;

absl::Status Wrong(const char* wanted, const std::string& got) {
  return absl::InvalidArgumentError(absl::StrFormat("tcp address: wanted %s, got \"%s\"", wanted,
                                                    OneLine(got.substr(0, kShownBytes))));
}

}  // namespace

absl::StatusOr<TcpAddress> TcpAddress::FromHost(const std::string& given, int port) {
  constexpr char kWanted[] = "an IPv4 or IPv6 address";
  std::string host = given;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  if (host.empty() || host.size() >= 64 || host.find('\0') != std::string::npos)
    return Wrong(kWanted, given);
  if (port < 0 || port > 65535) return Wrong("a port of 0..65535", absl::StrFormat("%d", port));
  TcpAddress address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    address.bytes = sizeof(sockaddr_in);
    return address;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  const size_t percent = host.find('%');
  const std::string numbers = host.substr(0, percent);
  if (inet_pton(AF_INET6, numbers.c_str(), &v6->sin6_addr) != 1) return Wrong(kWanted, given);
  if (percent != std::string::npos) {
    v6->sin6_scope_id = if_nametoindex(host.substr(percent + 1).c_str());
    if (v6->sin6_scope_id == 0) return Wrong("an interface of this host after %", given);
  }
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(static_cast<uint16_t>(port));
  address.bytes = sizeof(sockaddr_in6);
  return address;
}

absl::StatusOr<TcpAddress> TcpAddress::Parse(const std::string& text) {
  constexpr char kWanted[] = "tcp:ADDRESS:PORT";
  const size_t front = sizeof(kScheme) - 1;
  const size_t colon = text.rfind(':');
  if (text.rfind(kScheme, 0) != 0 || colon == std::string::npos || colon <= front)
    return Wrong(kWanted, text);
  const std::string host = text.substr(front, colon - front);
  const std::string digits = text.substr(colon + 1);
  int port = 0;
  if (digits.empty() || digits.size() > 5 ||
      digits.find_first_not_of("0123456789") != std::string::npos ||
      !absl::SimpleAtoi(digits, &port) || port == 0)
    return Wrong(kWanted, text);
  const bool bracketed = host.front() == '[';
  if (!bracketed && host.find(':') != std::string::npos) return Wrong(kWanted, text);
  absl::StatusOr<TcpAddress> address = FromHost(host, port);
  if (!address.ok()) return Wrong(kWanted, text);
  return address;
}

absl::StatusOr<TcpAddress> TcpAddress::OfSocket(int socket) {
  TcpAddress address;
  address.bytes = sizeof(address.storage);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address.storage), &address.bytes) != 0)
    return absl::UnavailableError(absl::StrFormat("getsockname: %s", std::strerror(errno)));
  return address;
}

int TcpAddress::port() const {
  if (family() == AF_INET6)
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
}

bool TcpAddress::is_wildcard() const {
  if (family() == AF_INET6) {
    const in6_addr& address = reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr;
    return std::memcmp(&address, &in6addr_any, sizeof(address)) == 0;
  }
  return reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr.s_addr == INADDR_ANY;
}

std::string TcpAddress::host() const {
  char text[NI_MAXHOST] = {};
  if (getnameinfo(get(), bytes, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) return "?";
  return text;
}

std::string TcpAddress::HostPort() const {
  const std::string text = host();
  return family() == AF_INET6 ? absl::StrFormat("[%s]:%d", text, port())
                              : absl::StrFormat("%s:%d", text, port());
}

std::string TcpAddress::ToString() const { return kScheme + HostPort(); }

absl::StatusOr<std::string> AddressOfInterface(const std::string& interface_name, int family) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0)
    return absl::UnavailableError(absl::StrFormat("getifaddrs: %s", std::strerror(errno)));
  std::string found;
  for (const ifaddrs* at = list; at != nullptr && found.empty(); at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != family ||
        interface_name != at->ifa_name)
      continue;
    TcpAddress address;
    address.bytes = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    std::memcpy(&address.storage, at->ifa_addr, address.bytes);
    found = address.host();
  }
  freeifaddrs(list);
  if (!found.empty()) return found;
  return absl::InvalidArgumentError(
      absl::StrFormat("interface \"%s\": it has no %s address", OneLine(interface_name),
                      family == AF_INET6 ? "IPv6" : "IPv4"));
}

}  // namespace sheaf
