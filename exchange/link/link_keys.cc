#include "exchange/link/link_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace sheaf {
namespace {

constexpr size_t kLabelBytes = 16;

std::array<uint8_t, 8> LittleEndian(uint64_t value) {
  std::array<uint8_t, 8> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
  return bytes;
}

}  // namespace

std::array<uint8_t, 32> DeriveFrom(std::span<const uint8_t> key, const char* label,
                                   std::initializer_list<std::span<const uint8_t>> parts) {
  const size_t label_bytes = std::strlen(label);
  SHEAF_CHECK(label_bytes <= kLabelBytes, "a label has at most 16 bytes");
  std::vector<uint8_t> text(kLabelBytes);
  std::copy_n(label, label_bytes, text.begin());
  for (const std::span<const uint8_t> part : parts)
    text.insert(text.end(), part.begin(), part.end());
  std::array<uint8_t, 32> out{};
  unsigned out_bytes = 0;
  const bool made = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), text.data(),
                         text.size(), out.data(), &out_bytes) != nullptr;
  SHEAF_CHECK(made && out_bytes == out.size(), "OpenSSL has HMAC-SHA256");
  return out;
}

LinkKey LinkKeyFor(const LinkSecret& secret, InstanceId worker, InstanceId router) {
  return {DeriveFrom(secret, "sheaf link 3",
                     {LittleEndian(worker.value()), LittleEndian(router.value())})};
}

bool SameBytes(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

LinkNonce FreshNonce() {
  LinkNonce nonce{};
  // Below 256 bytes it neither fails nor is cut short once the kernel has started.
  SHEAF_CHECK(getrandom(nonce.data(), nonce.size(), 0) == static_cast<ssize_t>(nonce.size()),
              "the kernel has randomness");
  return nonce;
}

}  // namespace sheaf
