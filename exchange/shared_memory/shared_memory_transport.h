#pragma once
// SharedMemoryTransport: links between processes of one host. Frames lie in memory that both sides
// map, a futex wakes the receiver, and a socket that breaks tells of a death at once. A decode
// layer's exchange costs about what bare shared memory and futexes cost
// (exchange/benchmarks/); why not UCX within a host: docs/decisions/0007.
//
// Reach      processes that share a kernel and a network namespace: one machine, or the containers
//            of one pod. A peer elsewhere is refused with both hosts named.
// Threads    the transport: any; links as exchange/transport.h.
// Memory     each end holds what was under way at once in its own direction, in anonymous shared
//            memory (not /dev/shm).

#include <memory>

#include "exchange/transport.h"

namespace sheaf {

class SharedMemoryTransport final : public Transport {
 public:
  absl::StatusOr<std::unique_ptr<RouterLink>> NewRouterLink(Epoch epoch) override;
  absl::StatusOr<std::unique_ptr<WorkerLink>> NewWorkerLink(Epoch epoch, WorkerId self) override;
};

}  // namespace sheaf
