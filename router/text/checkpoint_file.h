#pragma once
// Reads one of a checkpoint's small text files (tokenizer.json, chat_template.jinja, ...) whole.
//
// Errors  kNotFound when there is no such file; kInvalidArgument when it is no regular file or
//         above kMaxCheckpointFileBytes; kUnavailable when reading fails. Messages name the path.

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace sheaf {

// A tokenizer.json of 150,000 tokens is 20 MB.
inline constexpr uint64_t kMaxCheckpointFileBytes = uint64_t{256} << 20;

absl::StatusOr<std::string> ReadCheckpointFile(const std::string& path);

// Empty when there is no such file.
absl::StatusOr<std::string> ReadOptionalCheckpointFile(const std::string& path);

}  // namespace sheaf
