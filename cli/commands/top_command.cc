// `sheaf top`: a router and its pool, live in a terminal, from GET /sheaf/v1/pool.

#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_replace.h"
#include "base/one_line.h"
#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/options/client_tls.h"
#include "cli/process/process_setup.h"
#include "cli/top/http_get.h"
#include "cli/top/top_frame.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Answer {
  nlohmann::json json;
  steady_clock::time_point at;
};

absl::StatusOr<Answer> Ask(const TopOptions& options, const std::shared_ptr<TlsDialer>& dialer) {
  SHEAF_ASSIGN_OR_RETURN(const std::string body,
                         HttpGet(options.http, "/sheaf/v1/pool", milliseconds(options.timeout_ms),
                                 dialer.get()));
  Answer answer{nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false),
                steady_clock::now()};
  if (!answer.json.is_object()) {
    return absl::InternalError(options.http + ": the answer is not a JSON object");
  }
  return answer;
}

TopStyle StyleOfTerminal() {
  TopStyle style{.columns = 80, .rows = 24, .colour = true};
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 1) {
    style.columns = size.ws_col;
    style.rows = size.ws_row - 1;
  }
  return style;
}

// The alternate screen without a cursor, for as long as it lives.
class Screen {
 public:
  Screen() { Write("\x1b[?1049h\x1b[?25l"); }
  ~Screen() { Write("\x1b[?25h\x1b[?1049l"); }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // Over the frame before, without a moment of emptiness between them.
  void Show(const std::string& frame) {
    Write("\x1b[H" + absl::StrReplaceAll(frame, {{"\n", "\x1b[K\r\n"}}) + "\x1b[J");
  }

 private:
  static void Write(const std::string& bytes) {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  }
};

std::string FrameOf(const Answer& now, const std::optional<Answer>& before, const TopStyle& style) {
  const double seconds =
      before ? std::chrono::duration<double>(now.at - before->at).count() : 0.0;
  return TopFrame(now.json, before ? &before->json : nullptr, seconds, style);
}

}  // namespace

int RunTop(const TopOptions& options) {
  StopSignals signals;
  const milliseconds interval(static_cast<int64_t>(options.interval_s * 1000));
  const auto dialer = OpenDialer(options.tls);
  if (!dialer.ok()) return Fail(dialer.status());
  absl::StatusOr<Answer> first = Ask(options, *dialer);
  if (!first.ok()) return Fail(ExplainUnreached(first.status(), options.http, *dialer));
  std::optional<Answer> before = *std::move(first);
  const bool live = !options.once && isatty(STDOUT_FILENO) == 1;
  std::optional<Screen> screen;
  if (live) {
    screen.emplace();
    screen->Show(FrameOf(*before, std::nullopt, StyleOfTerminal()));
  }
  while (!signals.WaitFor(interval)) {
    absl::StatusOr<Answer> now = Ask(options, *dialer);
    if (!now.ok() && !live) return Fail(now.status());
    std::string frame;
    if (now.ok()) {
      frame = FrameOf(*now, before, live ? StyleOfTerminal() : TopStyle{});
      before = *std::move(now);
    } else {
      frame = "no answer, asking again: " + OneLine(std::string(now.status().message())) + "\n";
    }
    if (live) {
      screen->Show(frame);
      continue;
    }
    std::fputs(frame.c_str(), stdout);
    if (options.once) return 0;
    std::fputs("\n", stdout);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace sheaf
