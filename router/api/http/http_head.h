#pragma once
// What stands before the body of a request: where it ends, what it says, and whether it may be
// said (RFC 9110, RFC 9112). Pure functions over bytes; the connection only reads and writes.
//
// Strictness  what two servers in a row could read differently is refused: lines that do not end
//             in CRLF, folded lines, several or wrong Hosts, doubtful body lengths.
// Errors      as the answer to send, after which the connection is over: where the body ends is
//             not certain.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

// clang-format off
#include <utility>  // before Asio: its 1.74 uses std::exchange without it
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
// clang-format on

#include "router/api/http/http_message.h"

namespace sheaf {

struct HttpSizeLimits {
  size_t max_header_bytes;
  size_t max_body_bytes;
};

// Finds the end of a head in bytes that come piece by piece. Each byte is looked at once.
class HeadScanner {
 public:
  enum class State { kMore, kComplete, kMalformed };

  // `bytes`: all that came so far, what earlier calls saw included.
  State Scan(std::string_view bytes);

  size_t begin() const { return begin_; }  // after empty lines that some clients send before it
  size_t end() const { return end_; }      // kComplete: after the empty line
  const char* problem() const { return problem_; }  // kMalformed

 private:
  State Malformed(const char* problem) {
    problem_ = problem;
    return State::kMalformed;
  }

  size_t at_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t line_bytes_ = 0;
  int empty_lines_ = 0;
  bool after_cr_ = false;
  bool in_head_ = false;  // the request line has come
  const char* problem_ = "";
};

struct HttpHead {
  std::string method;
  std::string path;        // decoded, without query and trailing slash; "*" for OPTIONS alone
  std::string host;        // "name", "name:port", or empty; of an absolute target, else of Host
  std::string request_id;  // X-Request-Id, if it is harmless in a header, an id and a log line
  std::string fairness_key;  // whose share the request is counted on
  std::optional<TraceContext> trace;  // of traceparent and tracestate
  std::optional<std::string> origin;
  std::vector<std::string> content_types;
  std::string preflight_headers;  // Access-Control-Request-Headers
  bool preflight = false;         // asks what another origin may send
  bool keep_alive = false;
  bool chunks = false;            // the client understands chunked answers
  bool expects_continue = false;  // waits for a 100 before it sends the body
};

using HttpRequestParser = boost::beast::http::request_parser<boost::beast::http::string_body>;

// Gives a complete head to `parser`, which then is ready for the body.
std::variant<HttpHead, HttpResponse> ParseHead(std::string_view bytes, HttpSizeLimits limits,
                                               HttpRequestParser& parser);

// The answer to bytes that the parser refused.
HttpResponse RefusalOf(const boost::system::error_code& error, HttpSizeLimits limits);

// uri-host [":" port] as in a Host field; may be empty.
bool IsHost(std::string_view text);

}  // namespace sheaf
