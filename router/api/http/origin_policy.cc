#include "router/api/http/origin_policy.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "router/api/http/http_errors.h"

namespace sheaf {
namespace {

constexpr const char* kPreflightSeconds = "600";

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

struct HostAndPort {
  std::string_view name;
  std::string_view port;  // empty: none was written
};

HostAndPort Split(std::string_view host) {
  const size_t colon = host.find(':', host.starts_with('[') ? host.find(']') : 0);
  if (colon == std::string_view::npos) return {host, {}};
  return {host.substr(0, colon), host.substr(colon + 1)};
}

std::string_view PortOf(std::string_view scheme) {
  return scheme == "http" ? "80" : scheme == "https" ? "443" : "";
}

bool IsLoopbackName(std::string_view name) {
  return name == "localhost" || name.ends_with(".localhost") || name == "[::1]" ||
         (name.starts_with("127.") && std::all_of(name.begin(), name.end(), [](char c) {
            return c == '.' || (c >= '0' && c <= '9');
          }));
}

// The types of a body that a page may send anywhere without asking (a form's).
bool IsFormType(std::string_view content_type) {
  std::string type = Lower(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  return type == "text/plain" || type == "application/x-www-form-urlencoded" ||
         type == "multipart/form-data";
}

HttpResponse WrongType(const std::string& what) {
  return ErrorResponse(
      415, what +
               " The body is JSON: send the header Content-Type: application/json (curl: -H "
               "'Content-Type: application/json').");
}

}  // namespace

std::optional<std::string> NormalOrigin(std::string_view text) {
  if (text == "null") return std::string(text);
  const size_t mark = text.find("://");
  if (mark == std::string_view::npos || mark == 0) return std::nullopt;
  const std::string scheme = Lower(text.substr(0, mark));
  const bool scheme_is_valid = std::all_of(scheme.begin(), scheme.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '-' || c == '.';
  });
  const std::string_view host = text.substr(mark + 3);
  const HostAndPort parts = Split(host);
  if (!scheme_is_valid || parts.name.empty() || !IsHost(host)) return std::nullopt;
  std::string origin = scheme + "://" + Lower(parts.name);
  if (!parts.port.empty() && parts.port != PortOf(scheme)) origin.append(":").append(parts.port);
  return origin;
}

OriginPolicy::OriginPolicy(const std::vector<std::string>& allowed, bool listens_on_loopback)
    : listens_on_loopback_(listens_on_loopback) {
  for (const std::string& origin : allowed) {
    if (origin == "*") {
      all_ = true;
    } else if (auto normal = NormalOrigin(origin)) {
      allowed_.push_back(*std::move(normal));
    }
  }
}

bool OriginPolicy::IsAllowed(std::string_view origin) const {
  if (all_) return true;
  const auto normal = NormalOrigin(origin);
  return normal && std::find(allowed_.begin(), allowed_.end(), *normal) != allowed_.end();
}

bool OriginPolicy::IsOwnPage(std::string_view origin, std::string_view host) const {
  const auto normal = NormalOrigin(origin);
  const size_t mark = normal ? normal->find("://") : std::string::npos;
  if (mark == std::string::npos) return false;
  const std::string_view scheme_port = PortOf(std::string_view(*normal).substr(0, mark));
  const HostAndPort page = Split(std::string_view(*normal).substr(mark + 3));
  const HostAndPort own = Split(host);
  // The scheme is not compared: behind a proxy the page's may be https.
  const auto port = [&](const HostAndPort& parts) {
    return parts.port.empty() ? scheme_port : parts.port;
  };
  return page.name == own.name && port(page) == port(own) &&
         (!listens_on_loopback_ || IsLoopbackName(own.name));
}

std::optional<HttpResponse> OriginPolicy::Refuse(const HttpHead& head) const {
  if (head.origin && !IsAllowed(*head.origin) && !IsOwnPage(*head.origin, head.host)) {
    return ErrorResponse(403, "Pages of " + head.origin->substr(0, 256) +
                                  " may not use this server; --allowed-origins would let them.");
  }
  if (head.method != "POST") return std::nullopt;
  if (head.content_types.empty() && head.origin) return WrongType("There is no Content-Type.");
  for (const std::string& type : head.content_types) {
    if (IsFormType(type)) return WrongType("The Content-Type is " + type.substr(0, 256) + ".");
  }
  return std::nullopt;
}

HttpFields OriginPolicy::AnswerFields(const HttpHead& head) const {
  HttpFields fields;
  // Caches must not give one page's answer to another.
  if (!all_ && !allowed_.empty()) fields.emplace_back("Vary", "Origin");
  if (!head.origin || !IsAllowed(*head.origin)) return fields;
  fields.emplace_back("Access-Control-Allow-Origin", all_ ? "*" : *head.origin);
  fields.emplace_back("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
  return fields;
}

HttpFields OriginPolicy::PreflightFields(const HttpHead& head, const std::string& methods) const {
  if (!head.preflight || !IsAllowed(*head.origin)) return {};
  HttpFields fields = {{"Access-Control-Allow-Methods", methods},
                       {"Access-Control-Max-Age", kPreflightSeconds}};
  if (!head.preflight_headers.empty()) {
    fields.emplace_back("Access-Control-Allow-Headers", head.preflight_headers);
  }
  return fields;
}

}  // namespace sheaf
