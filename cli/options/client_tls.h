#pragma once
// TLS of the commands that ask a running process (--tls-*), and why such a process was not reached,
// in words that help: most often one end speaks TLS and the other does not.
//
// Errors     Open: kInvalidArgument naming the flag or the file.
// Threads    the caller's. ExplainUnreached may ask the address once more, for at most some
//            seconds.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/options/tls_options.h"
#include "grpcpp/channel.h"
#include "grpcpp/support/status.h"
#include "network/tls/tls_dialer.h"

namespace sheaf {

// Null: plaintext.
absl::StatusOr<std::shared_ptr<TlsDialer>> OpenDialer(const DialTlsOptions& options);

// A call's end. absl's codes are gRPC's.
inline absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// A null dialer: plaintext.
std::shared_ptr<grpc::Channel> DialGrpc(const std::string& address,
                                        const std::shared_ptr<TlsDialer>& dialer);

// "ADDRESS: what is wrong", of a call that ended with `status`, which is not OK.
absl::Status ExplainUnreached(const absl::Status& status, const std::string& address,
                              const std::shared_ptr<TlsDialer>& dialer);
// Of a connection that had TLS, if any, by other flags than --tls-*; `flags`: those.
absl::Status ExplainUnreached(const absl::Status& status, const std::string& address, bool with_tls,
                              const std::string& flags);

}  // namespace sheaf
