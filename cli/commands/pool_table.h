#pragma once
// A pool's status as text for a terminal. Pure.

#include <string>

#include "sheaf/v1/pool.pb.h"

namespace sheaf {

std::string PoolTable(const v1::PoolStatus& status);

// "loading", "ready", ...
const char* NameOf(v1::WorkerStatus::State state);

}  // namespace sheaf
