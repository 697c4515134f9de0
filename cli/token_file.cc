#include "cli/token_file.h"

#include <fstream>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr size_t kMaxTokenBytes = 4096;

}  // namespace

absl::StatusOr<std::string> ReadTokenFile(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path);
  if (!file) {
    return absl::NotFoundError(absl::StrFormat("--cluster-token-file: cannot read %s", path));
  }
  std::string line;
  for (char c = 0; line.size() <= kMaxTokenBytes && file.get(c) && c != '\n';) line += c;
  const char* const space = " \t\r";
  const size_t first = line.find_first_not_of(space);
  if (first == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--cluster-token-file: the first line of %s is empty", path));
  }
  std::string token = line.substr(first, line.find_last_not_of(space) - first + 1);
  if (token.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--cluster-token-file: %s: wanted at most %d bytes", path, kMaxTokenBytes));
  }
  // It travels in a header of HTTP/2.
  for (const char c : token) {
    if (c <= 0x20 || c >= 0x7f) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--cluster-token-file: %s: wanted one word of printable ASCII", path));
    }
  }
  return token;
}

}  // namespace sheaf
