#pragma once
// PoolBackend: experts in a pool's workers: links to them, the layer over those, and the
// coordinator, inside this process with a listener of its own or elsewhere (--coordinator).
//
// Threads and errors as cli/router/expert_backend.h.

#include "cli/router/expert_backend.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<ExpertBackend>> MakePoolBackend(const ExpertBackendParts& parts);

// Workers as threads of this process.
absl::StatusOr<std::unique_ptr<ExpertBackend>> MakeInProcessBackend(
    const ExpertBackendParts& parts);

}  // namespace sheaf
