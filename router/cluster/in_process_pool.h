#pragma once
// The coordinator in the same process: the session of a PoolClient without gRPC.
//
// Ownership  the coordinator outlives the client. Threads: as PoolClient.

#include "coordinator/coordinator.h"
#include "router/cluster/pool_client.h"

namespace sheaf {

OpenPoolStream InProcessPool(Coordinator& coordinator);

}  // namespace sheaf
