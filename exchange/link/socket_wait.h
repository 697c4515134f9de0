#pragma once
// Waiting on one socket that does not block, while a link is being made. A connector's own thread
// waits here; nobody else does.
//
// Errors     kUnavailable "no answer in time".

#include "absl/status/status.h"
#include "base/clock.h"

namespace sheaf {

absl::Status WaitUntilReadable(int socket, TimePoint deadline);
absl::Status WaitUntilWritable(int socket, TimePoint deadline);

}  // namespace sheaf
