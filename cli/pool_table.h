#pragma once
// A pool's status as text for a terminal. Pure.

#include <string>

#include "sheaf/v1/pool.pb.h"

namespace sheaf {

std::string PoolTable(const v1::PoolStatus& status);

}  // namespace sheaf
