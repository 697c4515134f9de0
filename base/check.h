#pragma once
// SHEAF_CHECK(condition, "why this cannot be false") ends the process with file, line and reason.
//
// Only for what cannot happen whatever a network, a peer, a file or a user does; everything else is
// an absl::Status (base/status.h).

#include <cstdio>
#include <cstdlib>

namespace sheaf {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition,
                                     const char* reason) {
  std::fprintf(stderr, "%s:%d: check failed: %s (%s)\n", file, line, condition, reason);
  std::fflush(stderr);
  std::abort();
}

}  // namespace sheaf

#define SHEAF_CHECK(condition, reason) \
  ((condition) ? (void)0 : ::sheaf::CheckFailed(__FILE__, __LINE__, #condition, reason))
