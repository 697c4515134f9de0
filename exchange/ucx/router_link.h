#pragma once
// The router end of a UCX link. Contract: exchange/transport.h.

#include <memory>

#include "exchange/ucx/ucx_context.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<RouterLink>> NewUcxRouterLink(
    std::shared_ptr<UcxTransport::Context> context, Epoch epoch);

}  // namespace sheaf
