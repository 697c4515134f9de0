#include "base/host_port.h"

#include <charconv>

#include "absl/strings/str_format.h"

namespace sheaf {

std::string WithoutBrackets(std::string_view host) {
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  return std::string(bracketed ? host.substr(1, host.size() - 2) : host);
}

std::string JoinHostPort(std::string_view host, int port) {
  const std::string name = WithoutBrackets(host);
  const bool is_v6 = name.find(':') != std::string::npos;
  return absl::StrFormat(is_v6 ? "[%s]:%d" : "%s:%d", name, port);
}

absl::StatusOr<HostPort> SplitHostPort(std::string_view text) {
  const auto refused = [&] {
    return absl::InvalidArgumentError(
        absl::StrFormat("wanted HOST:PORT (an IPv6 address in brackets), got \"%s\"", text));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return refused();
  const std::string_view host = text.substr(0, colon), digits = text.substr(colon + 1);
  const std::string name = WithoutBrackets(host);
  const bool bracketed = name.size() != host.size();
  if (name.empty() || name.find_first_of("[]") != std::string::npos ||
      (!bracketed && name.find(':') != std::string::npos)) {
    return refused();
  }
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size()) {
    return refused();
  }
  return HostPort{name, port};
}

bool IsWildcardHost(std::string_view host) {
  const std::string name = WithoutBrackets(host);
  return name == "0.0.0.0" || name == "::";
}

bool IsLoopbackHost(std::string_view host) {
  const std::string name = WithoutBrackets(host);
  if (name == "localhost" || name == "::1") return true;
  return name.starts_with("127.") && name.find_first_not_of("0123456789.") == std::string::npos;
}

std::string LocalHostOf(std::string_view host) {
  if (!IsWildcardHost(host)) return WithoutBrackets(host);
  return WithoutBrackets(host) == "::" ? "::1" : "127.0.0.1";
}

}  // namespace sheaf
