#include "cli/data_plane.h"

#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "exchange/shared_memory/handshake.h"
#include "exchange/shared_memory/shared_memory_transport.h"
#include "exchange/two_reach_transport.h"
#include "exchange/ucx/ucx_transport.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(TransportKind kind) {
  SHEAF_CHECK(kind != TransportKind::kInProcess, "threads of one process need no such transport");
  if (kind == TransportKind::kSharedMemory) return std::make_unique<SharedMemoryTransport>();
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<Transport> ucx, UcxTransport::Create());
  if (kind == TransportKind::kUcx) return ucx;
  return std::make_unique<TwoReachTransport>(
      HostIdentity(), std::make_unique<SharedMemoryTransport>(), std::move(ucx));
}

}  // namespace sheaf
