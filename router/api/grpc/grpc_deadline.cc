#include "router/api/grpc/grpc_deadline.h"

#include <algorithm>

namespace sheaf {
namespace {

using std::chrono::milliseconds;

// The alarm is earlier than the deadline by a hundredth of the time, within these bounds; the
// engine by twice as much. Of a short time at most half is given up.
constexpr milliseconds kMinMargin{20};
constexpr milliseconds kMaxMargin{250};

// A client's timer ends the call before ours does: by the way here and by what gRPC rounds up in
// the header that carries the time left. A call that ends so shortly before its deadline ran out of
// time.
constexpr milliseconds kClientSkew{250};

}  // namespace

CallDeadline::CallDeadline(const grpc::ServerContextBase& server)
    : CallDeadline(std::chrono::system_clock::now(), server.deadline()) {}

CallDeadline::CallDeadline(SystemTime now, SystemTime deadline) {
  // Without a deadline gRPC says "infinitely far", which arrives here as some centuries.
  if (deadline == SystemTime::max() || deadline - now > std::chrono::hours(24 * 365)) return;
  using Span = SystemTime::duration;
  const Span left = std::max(deadline - now, Span(0));
  const Span margin = std::min(std::clamp<Span>(left / 100, kMinMargin, kMaxMargin), left / 4);
  deadline_ = deadline;
  engine_ = deadline - 2 * margin;
  alarm_ = deadline - margin;
}

std::optional<TimePoint> CallDeadline::ForEngine(const Clock& clock) const {
  if (!engine_) return std::nullopt;
  return clock.Now() +
         std::chrono::duration_cast<Duration>(*engine_ - std::chrono::system_clock::now());
}

bool CallDeadline::IsOverAt(SystemTime now) const {
  return deadline_ && *deadline_ <= now + kClientSkew;
}

ApiError DeadlinePassed() {
  return {absl::DeadlineExceededError("the call's deadline passed"), {}, {}};
}

}  // namespace sheaf
