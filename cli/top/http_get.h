#pragma once
// One GET over HTTP/1.1, plain or over TLS, for commands that look at a running router.
//
// Threads    the caller's; it waits for at most `timeout`, name lookup included.
// Errors     kUnavailable naming the address: nobody answers there, or not in time, or not HTTP, or
//            a server that the dialer does not accept (which says why);
//            kNotFound for 404; kInternal for another status that is no success.

#include <chrono>
#include <string>

#include "absl/status/statusor.h"
#include "network/tls/tls_dialer.h"

namespace sheaf {

// The body. `address`: host:port. At most 64 MiB are taken. A null dialer: plaintext.
absl::StatusOr<std::string> HttpGet(const std::string& address, const std::string& path,
                                    std::chrono::milliseconds timeout, TlsDialer* dialer);

}  // namespace sheaf
