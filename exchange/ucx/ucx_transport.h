#pragma once
// UcxTransport: links between hosts over UCX active messages: TCP, and RDMA where it is there.
// docs/exchange_protocol.md says what each setting is for. Within a host
// exchange/shared_memory/ is three times faster, and UCX's own shared memory is not used.
//
// Every link has a ucp_worker of its own, made for one epoch and destroyed with it: after a peer's
// death a ucp_worker may be left in a state from which only a fresh one recovers.
//
// Process    Create it early in main: settings go through the environment (UCX_* set by the user
//            win) and UCX's signal handlers are taken out. Do not fork afterwards.
// Threads    the transport: any; links as exchange/transport.h.
// Errors     Create: kInternal with UCX's words.

#include <memory>

#include "exchange/transport.h"

namespace sheaf {

struct UcxTransportOptions {
  // A peer whose machine is gone is noticed by the next keepalive; a dead process sooner.
  std::chrono::milliseconds keepalive = std::chrono::milliseconds(500);
  // Payloads from this size on are pulled by the receiver, where this UCX does so safely.
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
