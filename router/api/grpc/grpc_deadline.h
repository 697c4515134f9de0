#pragma once
// CallDeadline: when a call is over, and how long before that the server ends it by itself.
//
// At the deadline gRPC cancels the call and sends a status of its own; when ours is on its way too,
// the client gets two, and some clients drop the whole connection then. So the server is earlier:
// first the engine is due, whose answer says where the time went, and a little later an alarm ends
// whatever still waits.
//
// Threads: immutable.

#include <chrono>
#include <optional>

#include "base/clock.h"
#include "grpcpp/server_context.h"
#include "router/api/request/api_error.h"

namespace sheaf {

class CallDeadline {
 public:
  using SystemTime = std::chrono::system_clock::time_point;

  explicit CallDeadline(const grpc::ServerContextBase& server);
  CallDeadline(SystemTime now, SystemTime deadline);

  // nullopt: the call may take as long as it likes.
  std::optional<TimePoint> ForEngine(const Clock& clock) const;
  std::optional<SystemTime> ForAlarm() const { return alarm_; }
  // Whether a call that its client gave up now ran out of time.
  bool IsOverAt(SystemTime now) const;

 private:
  std::optional<SystemTime> deadline_;
  std::optional<SystemTime> engine_;
  std::optional<SystemTime> alarm_;
};

// What a call is told that the server ended for its deadline.
ApiError DeadlinePassed();

}  // namespace sheaf
