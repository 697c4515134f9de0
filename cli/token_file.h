#pragma once
// The pool's token: the first line of a file, without the white space around it.
//
// Errors     kNotFound, kInvalidArgument (empty, too long, not one printable word) naming the path,
//            never the token.

#include <string>

#include "absl/status/statusor.h"

namespace sheaf {

// An empty path is an empty token: none.
absl::StatusOr<std::string> ReadTokenFile(const std::string& path);

}  // namespace sheaf
