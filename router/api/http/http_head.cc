#include "router/api/http/http_head.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/str_format.h"
#include "router/api/http/http_errors.h"
#include "router/api/request/fairness_key.h"

namespace sheaf {
namespace {

namespace http = boost::beast::http;
using Message = HttpRequestParser::value_type;

constexpr int kMaxEmptyLines = 8;
constexpr size_t kMaxRequestIdBytes = 128;

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

bool IsAlnum(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

bool IsMethodCharacter(char c) {
  return IsAlnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

int HexDigit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

// Nothing: a % that is no escape.
std::optional<std::string> PercentDecoded(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size() || HexDigit(text[i + 1]) < 0 || HexDigit(text[i + 2]) < 0) {
      return std::nullopt;
    }
    decoded += static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2]));
    i += 2;
  }
  return decoded;
}

std::string HarmlessRequestId(std::string_view id) {
  const bool harmless =
      id.size() <= kMaxRequestIdBytes && std::all_of(id.begin(), id.end(), [](char c) {
        return IsAlnum(c) || c == '-' || c == '_' || c == '.' || c == ':';
      });
  return harmless ? std::string(id) : std::string();
}

// Fills host and path from the target; or says what is wrong with it.
const char* ReadTarget(std::string_view target, HttpHead& head) {
  if (target == "*") {
    if (head.method != "OPTIONS") return "the target * is for OPTIONS alone";
    head.path = target;
    return nullptr;
  }
  if (target.find('#') != std::string_view::npos) return "the target has a fragment";
  if (!target.starts_with('/')) {
    const std::string lower = Lower(target.substr(0, 8));
    const size_t scheme = lower.starts_with("http://") ? 7 : lower.starts_with("https://") ? 8 : 0;
    if (scheme == 0) return "the target is neither a path nor an http URL";
    target.remove_prefix(scheme);
    const std::string_view host = target.substr(0, target.find_first_of("/?"));
    if (host.empty() || !IsHost(host)) return "the target names no valid host";
    head.host = Lower(host);
    target.remove_prefix(host.size());
  }
  std::string_view path = target.substr(0, target.find('?'));
  if (path.empty()) path = "/";
  // Before decoding: an escaped slash belongs to a name.
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  auto decoded = PercentDecoded(path);
  if (!decoded) return "the path has a % without two hexadecimal digits";
  head.path = *std::move(decoded);
  return nullptr;
}

std::vector<std::string_view> ValuesOf(const Message& message, const char* name) {
  std::vector<std::string_view> values;
  const auto fields = message.equal_range(name);
  for (auto field = fields.first; field != fields.second; ++field) {
    values.push_back(View(field->value()));
  }
  return values;
}

const char* ReadHost(const Message& message, HttpHead& head) {
  const auto hosts = message.equal_range(http::field::host);
  const auto count = std::distance(hosts.first, hosts.second);
  if (count == 0) return message.version() >= 11 ? "there is no Host" : nullptr;
  if (count > 1) return "there is more than one Host";
  const std::string_view host = View(hosts.first->value());
  if (!IsHost(host)) return "the Host is not valid";
  head.host = Lower(host);
  return nullptr;
}

// How the body ends must be certain: chunked, or a length, which the parser has checked.
std::optional<HttpResponse> RefuseTransferCoding(const Message& message) {
  const auto codings = message.equal_range(http::field::transfer_encoding);
  if (codings.first == codings.second) return std::nullopt;
  if (message.version() < 11) return ErrorResponse(400, "Transfer-Encoding needs HTTP/1.1.");
  for (auto field = codings.first; field != codings.second; ++field) {
    if (Lower(View(field->value())) == "chunked") continue;
    return ErrorResponse(501, "Transfer-Encoding: only chunked is known.");
  }
  return std::nullopt;
}

}  // namespace

HeadScanner::State HeadScanner::Scan(std::string_view bytes) {
  for (; at_ < bytes.size(); ++at_) {
    const char c = bytes[at_];
    if (after_cr_) {
      if (c != '\n') return Malformed("a line ends in CR without LF");
      after_cr_ = false;
      if (line_bytes_ > 0) {
        in_head_ = true;
      } else if (in_head_) {
        end_ = ++at_;
        return State::kComplete;
      } else if (++empty_lines_ > kMaxEmptyLines) {
        return Malformed("too many empty lines");
      } else {
        begin_ = at_ + 1;
      }
      line_bytes_ = 0;
      continue;
    }
    if (c == '\r') {
      after_cr_ = true;
      continue;
    }
    if (c == '\n') return Malformed("a line ends in LF without CR");
    if (line_bytes_ == 0) {
      // At once, and not after the head: another protocol's first bytes may have no end of line.
      if (!in_head_ && !IsMethodCharacter(c)) return Malformed("it begins with no method");
      if (in_head_ && (c == ' ' || c == '\t')) return Malformed("a header line is folded");
    }
    ++line_bytes_;
  }
  return State::kMore;
}

bool IsHost(std::string_view text) {
  const auto all = [](std::string_view part, const auto& allowed) {
    return std::all_of(part.begin(), part.end(), allowed);
  };
  std::string_view name = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return false;
    const std::string_view address = text.substr(1, end - 1);
    if (address.empty() ||
        !all(address, [](char c) { return HexDigit(c) >= 0 || c == ':' || c == '.'; })) {
      return false;
    }
    port = text.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return false;
    if (!port.empty()) port.remove_prefix(1);
  } else {
    const size_t colon = text.find(':');
    name = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon + 1);
    const bool named = all(name, [](char c) {
      return IsAlnum(c) || std::string_view("-._~%!$&'()*+,;=").find(c) != std::string_view::npos;
    });
    if (!named) return false;
  }
  return port.size() <= 5 && all(port, [](char c) { return c >= '0' && c <= '9'; });
}

HttpResponse RefusalOf(const boost::system::error_code& error, HttpSizeLimits limits) {
  if (error == http::error::body_limit) {
    return ErrorResponse(
        413, absl::StrFormat("The body has more than %d bytes.", limits.max_body_bytes));
  }
  if (error == http::error::header_limit) {
    return ErrorResponse(
        431, absl::StrFormat("The header has more than %d bytes.", limits.max_header_bytes));
  }
  if (error == http::error::bad_version) {
    return ErrorResponse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
  }
  return ErrorResponse(400, "Not an HTTP request: " + error.message() + ".");
}

std::variant<HttpHead, HttpResponse> ParseHead(std::string_view bytes, HttpSizeLimits limits,
                                               HttpRequestParser& parser) {
  parser.header_limit(static_cast<uint32_t>(limits.max_header_bytes));
  parser.body_limit(limits.max_body_bytes);
  boost::system::error_code error;
  parser.put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
  if (error) return RefusalOf(error, limits);
  const Message& message = parser.get();

  HttpHead head;
  head.method = View(message.method_string());
  head.keep_alive = message.keep_alive();
  head.chunks = message.version() >= 11;
  head.request_id = HarmlessRequestId(View(message["X-Request-Id"]));
  head.fairness_key =
      FairnessKeyOf(View(message["X-Fairness-Key"]), View(message["Authorization"]));
  head.trace =
      ReadTraceContext(ValuesOf(message, "traceparent"), ValuesOf(message, "tracestate"));
  const auto bad = [](const char* problem) {
    return ErrorResponse(400, absl::StrFormat("Not an HTTP request: %s.", problem));
  };
  if (head.method == "CONNECT") return ErrorResponse(501, "This is no proxy.");
  // The host of an absolute target counts more than Host, which must be right all the same.
  if (const char* problem = ReadHost(message, head)) return bad(problem);
  if (const char* problem = ReadTarget(View(message.target()), head)) return bad(problem);
  if (auto refusal = RefuseTransferCoding(message)) return *std::move(refusal);
  if (message.count(http::field::expect) > 0 && head.chunks) {
    if (Lower(View(message[http::field::expect])) != "100-continue") {
      return ErrorResponse(417, "Expect: only 100-continue is known.");
    }
    head.expects_continue = true;
  }
  const auto origins = message.equal_range(http::field::origin);
  if (origins.first != origins.second) {
    if (std::next(origins.first) != origins.second) return bad("there is more than one Origin");
    head.origin = View(origins.first->value());
  }
  const auto types = message.equal_range(http::field::content_type);
  for (auto type = types.first; type != types.second; ++type) {
    head.content_types.emplace_back(View(type->value()));
  }
  head.preflight =
      head.method == "OPTIONS" && head.origin && message.count("Access-Control-Request-Method") > 0;
  head.preflight_headers = View(message["Access-Control-Request-Headers"]);
  return head;
}

}  // namespace sheaf
