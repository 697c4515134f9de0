#pragma once
// SHA-256 of files (OpenSSL's), and the list `sha256sum` writes: SHA256SUMS.
//
// Threads    one object a thread.
// Errors     ReadSha256Sums: kNotFound without the file; kInvalidArgument for a line that is not
//            64 hexadecimal digits, two characters and the name of a file in the same directory.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

struct evp_md_ctx_st;

namespace sheaf {

inline constexpr char kSha256SumsName[] = "SHA256SUMS";

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(std::span<const uint8_t> bytes);
  std::string Hex();  // once, after the last Update

 private:
  evp_md_ctx_st* const context_;
};

// Name to digest (lower case), of DIRECTORY/SHA256SUMS.
absl::StatusOr<std::map<std::string, std::string>> ReadSha256Sums(const std::string& directory);

}  // namespace sheaf
