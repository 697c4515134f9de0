#include "cli/process/process_identity.h"

#include <sys/random.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_format.h"
#include "base/check.h"

namespace sheaf {

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  gethostname(name, HOST_NAME_MAX);
  return name;
}

LinkSecret RandomSecret() {
  LinkSecret secret{};
  // Below 256 bytes it neither fails nor is cut short once the kernel has started.
  SHEAF_CHECK(getrandom(secret.data(), secret.size(), 0) == static_cast<ssize_t>(secret.size()),
              "the kernel has randomness");
  return secret;
}

InstanceId RandomInstance() {
  for (;;) {
    const LinkSecret random = RandomSecret();
    uint64_t value = 0;
    std::memcpy(&value, random.data(), sizeof(value));
    if (value != 0) return InstanceId(value);
  }
}

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::string token{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  while (!token.empty() && std::strchr(" \t\r\n", token.back()) != nullptr) token.pop_back();
  if (!file.good() && token.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--cluster-token-file: %s: wanted a file with a token", path));
  }
  if (token.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--cluster-token-file: %s: wanted a token, it is empty", path));
  }
  return token;
}

}  // namespace sheaf
