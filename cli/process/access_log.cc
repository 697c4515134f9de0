#include "cli/process/access_log.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "cli/process/process_setup.h"

namespace sheaf {
namespace {

bool IsPlain(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("._:/+@-").find(static_cast<char>(c)) !=
                                       std::string_view::npos;
  });
}

std::string Quoted(std::string_view text) {
  if (IsPlain(text)) return '"' + std::string(text) + '"';
  // ASCII alone: no control character, line separator or broken UTF-8 reaches the log.
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
}

std::string Value(std::string_view text) {
  if (text.empty()) return "-";
  return IsPlain(text) ? std::string(text) : Quoted(text);
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

std::string AccessLine(const EndedRequest& request, const AccessLogFormat& format) {
  fmt::memory_buffer line;
  const auto out = std::back_inserter(line);
  const char* const face = NameOf(request.face);
  const char* const outcome = NameOf(request.outcome);
  const std::string key = HashOfKey(request.fairness_key);
  if (format.json) {
    fmt::format_to(out,
                   R"("request_id":{},"face":"{}","key":"{}","model":{},"choices":{},)"
                   R"("prompt_tokens":{},"cached_tokens":{},"output_tokens":{},"text_bytes":{},)"
                   R"("queue_seconds":{:.6f},)",
                   Quoted(request.id), face, key, Quoted(format.model), request.choices,
                   request.prompt_tokens, request.cached_tokens, request.output_tokens,
                   request.text_bytes, Seconds(request.queued));
    if (request.first_token) {
      fmt::format_to(out, R"("first_token_seconds":{:.6f},)", Seconds(*request.first_token));
    }
    fmt::format_to(out, R"("total_seconds":{:.6f},"outcome":"{}")", Seconds(request.total),
                   outcome);
    if (request.trace != nullptr) {
      fmt::format_to(out, R"(,"trace_id":"{}")", HexOf(request.trace->trace_id));
    }
  } else {
    fmt::format_to(out,
                   "request id={} face={} key={} model={} choices={} in={} cached={} out={} "
                   "bytes={} queue_s={:.3f} ",
                   Value(request.id), face, key, Value(format.model), request.choices,
                   request.prompt_tokens, request.cached_tokens, request.output_tokens,
                   request.text_bytes, Seconds(request.queued));
    if (request.first_token) {
      fmt::format_to(out, "ttft_s={:.3f} ", Seconds(*request.first_token));
    } else {
      fmt::format_to(out, "ttft_s=- ");
    }
    fmt::format_to(out, "total_s={:.3f} outcome={}", Seconds(request.total), outcome);
    if (request.trace != nullptr) {
      fmt::format_to(out, " trace_id={}", HexOf(request.trace->trace_id));
    }
  }
  return fmt::to_string(line);
}

AccessLog::AccessLog(AccessLogFormat format, bool write_lines, KeyMetrics* keys)
    : format_(std::move(format)), write_lines_(write_lines), keys_(keys) {}

void AccessLog::Ended(const EndedRequest& request) {
  if (keys_ != nullptr) {
    keys_->Ended(request.fairness_key, request.prompt_tokens, request.output_tokens);
  }
  spdlog::logger& log = RequestLogger();
  if (!write_lines_ || !log.should_log(spdlog::level::info)) return;
  log.log(spdlog::level::info, spdlog::string_view_t(AccessLine(request, format_)));
}

}  // namespace sheaf
