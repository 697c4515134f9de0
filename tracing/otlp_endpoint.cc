#include "tracing/otlp_endpoint.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/host_port.h"
#include "base/one_line.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr std::string_view kScheme = "http://";
constexpr std::string_view kSignal = "/v1/traces";
constexpr int kDefaultPort = 4318;

absl::Status Wrong(std::string_view url, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "wanted a URL such as http://collector:4318, got \"", OneLine(url), "\": ", why));
}

bool HasPort(std::string_view authority) {
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.rfind(':');
  return colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
}

}  // namespace

std::string OtlpEndpoint::url() const {
  return absl::StrCat("http://", JoinHostPort(host, port), path);
}

absl::StatusOr<OtlpEndpoint> ParseOtlpEndpoint(std::string_view url) {
  const absl::string_view text(url.data(), url.size());
  if (absl::StartsWithIgnoreCase(text, "https://")) {
    return Wrong(url, "traces are sent in plaintext only; a collector beside this process, or a "
                      "mesh, can send them on over TLS");
  }
  if (!absl::StartsWithIgnoreCase(text, "http://")) {
    return Wrong(url, "it does not begin with http://");
  }
  std::string_view rest = url.substr(kScheme.size());
  const size_t slash = rest.find('/');
  const std::string_view authority = rest.substr(0, slash);
  std::string_view path = slash == std::string_view::npos ? std::string_view() : rest.substr(slash);
  if (authority.empty()) return Wrong(url, "it names no host");
  if (authority.find('@') != std::string_view::npos) return Wrong(url, "a user has no place in it");
  const auto is_odd = [](unsigned char c) { return c <= ' ' || c > '~' || c == '?' || c == '#'; };
  if (std::any_of(rest.begin(), rest.end(), is_odd)) {
    return Wrong(url, "a query, a fragment, blanks and other than ASCII have no place in it");
  }
  std::string with_port(authority);
  if (!HasPort(authority)) absl::StrAppend(&with_port, ":", kDefaultPort);
  const absl::StatusOr<HostPort> split = SplitHostPort(with_port);
  if (!split.ok()) return Wrong(url, std::string(split.status().message()));
  if (split->port == 0) return Wrong(url, "port 0 is none");
  while (path.ends_with('/')) path.remove_suffix(1);
  OtlpEndpoint endpoint{split->host, split->port, std::string(path)};
  if (!path.ends_with(kSignal)) endpoint.path += kSignal;
  return endpoint;
}

}  // namespace sheaf
