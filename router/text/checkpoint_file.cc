#include "router/text/checkpoint_file.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_format.h"

namespace sheaf {

absl::StatusOr<std::string> ReadCheckpointFile(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return absl::NotFoundError(absl::StrFormat("%s: no such file", path));
  }
  if (!std::filesystem::is_regular_file(status)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: not a regular file", path));
  }
  const uint64_t size_bytes = std::filesystem::file_size(path, error);
  if (error) {
    return absl::UnavailableError(absl::StrFormat("%s: %s", path, error.message()));
  }
  if (size_bytes > kMaxCheckpointFileBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %d bytes, the limit is %d", path,
                                                      size_bytes, kMaxCheckpointFileBytes));
  }
  std::ifstream file(path, std::ios::binary);
  std::string content(size_bytes, '\0');
  file.read(content.data(), static_cast<std::streamsize>(size_bytes));
  if (!file || static_cast<uint64_t>(file.gcount()) != size_bytes) {
    return absl::UnavailableError(
        absl::StrFormat("%s: cannot read its %d bytes", path, size_bytes));
  }
  return content;
}

absl::StatusOr<std::string> ReadOptionalCheckpointFile(const std::string& path) {
  absl::StatusOr<std::string> content = ReadCheckpointFile(path);
  if (absl::IsNotFound(content.status())) return std::string();
  return content;
}

}  // namespace sheaf
