#pragma once
// Whether an address speaks TLS, found by saying hello: for the message to somebody whose own words
// it did not understand.
//
// Threads    the caller's; it waits for at most about `timeout` for each address of the host, name
//            lookup apart.

#include <chrono>

#include "base/host_port.h"

namespace sheaf {

enum class Speaks {
  kUnknown,  // nobody answers, or not a word
  kPlaintext,
  kTls,
};

Speaks ProbeTls(const HostPort& address, std::chrono::milliseconds timeout);

}  // namespace sheaf
