#pragma once
// The process's ucp_context and the translation of UCX's status codes: what UcxTransport's links
// share.
//
// Threads    any. Ownership: links hold a shared_ptr, so the context outlives its workers.

#include <ucp/api/ucp.h>

#include <string>

#include "absl/status/status.h"
#include "exchange/ucx/ucx_transport.h"

namespace sheaf {

struct UcxTransport::Context {
  explicit Context(const UcxTransportOptions& chosen) : options(chosen) {}
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const UcxTransportOptions options;
  ucp_context_h ucp = nullptr;
  // UCX 1.13's rendezvous over TCP aborts the survivor of a peer's death now and then; eager never
  // did.
  bool rendezvous_is_safe = false;
};

// "what: <UCX's text>".
absl::Status UcxError(const char* what, ucs_status_t status);

}  // namespace sheaf
