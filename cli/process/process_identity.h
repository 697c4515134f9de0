#pragma once
// Who this process is to the others of its pool.
//
// Errors     ReadToken: kInvalidArgument naming the file: it cannot be read, or is empty.

#include <string>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "exchange/link/link_keys.h"

namespace sheaf {

std::string HostName();
// From the system's randomness; for this process's life.
InstanceId RandomInstance();
LinkSecret RandomSecret();
// What the file holds, without white space at its end; "" for no file.
absl::StatusOr<std::string> ReadToken(const std::string& path);

}  // namespace sheaf
