#include "router/api/http/response_head.h"

#include <boost/beast/http/status.hpp>
#include <ctime>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

// Not strftime: a locale must not translate them.
constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

std::string DateText(int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm utc{};
  gmtime_r(&time, &utc);
  return absl::StrFormat("%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[utc.tm_wday], utc.tm_mday,
                         kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min,
                         utc.tm_sec);
}

}  // namespace

std::string HttpDate::At(int64_t unix_seconds) {
  absl::MutexLock lock(&mutex_);
  if (unix_seconds != second_ || text_.empty()) {
    second_ = unix_seconds;
    text_ = DateText(unix_seconds);
  }
  return text_;
}

std::string ResponseHead(const HttpResponse& response, const HttpFraming& framing,
                         const std::string& date) {
  const auto reason =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(response.status));
  std::string head =
      absl::StrFormat("HTTP/1.1 %d %s\r\nServer: sheaf\r\nDate: %s\r\n", response.status,
                      std::string(reason.data(), reason.size()), date);
  if (response.status != 204) {  // which never has a body, nor what describes one
    head += "Content-Type: " + response.content_type + "\r\n";
    if (framing.has_length) head += absl::StrFormat("Content-Length: %d\r\n", response.body.size());
    if (framing.chunks && !framing.has_length) head += "Transfer-Encoding: chunked\r\n";
  }
  head += "X-Request-Id: " + framing.request_id + "\r\n";
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  for (const auto& [name, value] : framing.fields) head += name + ": " + value + "\r\n";
  head += framing.keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
}

}  // namespace sheaf
