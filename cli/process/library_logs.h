#pragma once
// RouteLibraryLogs: what gRPC and protobuf have to say goes through our log, in its format and at
// its level, instead of straight to stderr. Both mostly speak of peers, so there is a limit on
// their lines (base/log_limit.h).
//
// When       once, after the log is set up and before either library is used.

namespace sheaf {

void RouteLibraryLogs();

}  // namespace sheaf
