#pragma once
// UcxTransport: links between processes over UCX active messages: shared memory and CMA inside a
// host, TCP (RDMA where it is compiled in) between hosts. Chosen by measurement;
// docs/exchange_protocol.md says what each setting is for.
//
// Every link has a ucp_worker of its own, made for one epoch and destroyed with it: after a peer's
// death UCX's shared memory may be left in a state from which only a fresh worker recovers.
//
// Process    Create it early in main: settings go through the environment (UCX_* set by the user
//            win) and UCX's signal handlers are taken out. Do not fork afterwards.
// Threads    the transport: any; links as exchange/transport.h.
// Errors     Create: kInternal with UCX's words. Without CMA (no ptrace permission, separate PID
//            namespaces) links work but log a warning: UCX_TLS=tcp is then the better choice.

#include <memory>

#include "exchange/transport.h"

namespace sheaf {

struct UcxTransportOptions {
  // A dead peer in shared memory is noticed by the next keepalive.
  std::chrono::milliseconds keepalive = std::chrono::milliseconds(500);
  // Payloads from this size on are pulled by the receiver straight out of the sender's memory
  // (CMA).
  size_t rendezvous_bytes = 32 * 1024;
  // Poll for this long before sleeping. Above 0 only where every process has a core of its own.
  std::chrono::microseconds spin = std::chrono::microseconds(0);
};

class UcxTransport final : public Transport {
 public:
  static absl::StatusOr<std::unique_ptr<UcxTransport>> Create(
      const UcxTransportOptions& options = {});
  ~UcxTransport() override;

  absl::StatusOr<std::unique_ptr<RouterLink>> NewRouterLink(Epoch epoch) override;
  absl::StatusOr<std::unique_ptr<WorkerLink>> NewWorkerLink(Epoch epoch, WorkerId self) override;

  struct Context;

 private:
  explicit UcxTransport(std::shared_ptr<Context> context);
  std::shared_ptr<Context> context_;
};

}  // namespace sheaf
