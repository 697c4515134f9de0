#include "model/verify/sha256.h"

#include <openssl/evp.h>

#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr size_t kHexDigits = 64;

bool IsDigest(std::string_view text) {
  for (const char c : text) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
  }
  return text.size() == kHexDigits;
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  EVP_DigestInit_ex(context_, EVP_sha256(), nullptr);
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::Update(std::span<const uint8_t> bytes) {
  EVP_DigestUpdate(context_, bytes.data(), bytes.size());
}

std::string Sha256::Hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context_, digest, &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += absl::StrFormat("%02x", digest[i]);
  return hex;
}

absl::StatusOr<std::map<std::string, std::string>> ReadSha256Sums(const std::string& directory) {
  const std::string path = directory + "/" + kSha256SumsName;
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrFormat("%s: cannot open", path));
  std::map<std::string, std::string> sums;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    // "DIGEST  NAME", or "DIGEST *NAME" for what was read as binary.
    const std::string digest = line.substr(0, kHexDigits);
    std::string name = line.size() > kHexDigits + 2 ? line.substr(kHexDigits + 2) : std::string();
    if (name.rfind("./", 0) == 0) name.erase(0, 2);
    if (!IsDigest(digest) || name.empty() || name.find('/') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: line %d: wanted a SHA-256 digest and the name of a file in the same "
                          "directory",
                          path, number));
    }
    sums[name] = absl::AsciiStrToLower(digest);
  }
  return sums;
}

}  // namespace sheaf
