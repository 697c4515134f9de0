#include "exchange/link/frame_mac.h"

#include <openssl/evp.h>

#include <algorithm>

#include "base/check.h"

namespace sheaf {
namespace {

// OpenSSL counts in int.
constexpr size_t kMostAtOnce = size_t{1} << 30;

}  // namespace

const char* NameOf(FrameIntegrity integrity) {
  return integrity == FrameIntegrity::kMac ? "mac" : "none";
}

void FrameMac::Free::operator()(evp_cipher_ctx_st* context) const { EVP_CIPHER_CTX_free(context); }

absl::StatusOr<FrameMac> FrameMac::Create(const FrameKey& key) {
  Context context(EVP_CIPHER_CTX_new());
  if (context == nullptr || EVP_EncryptInit_ex(context.get(), EVP_chacha20_poly1305(), nullptr,
                                               key.bytes.data(), nullptr) != 1) {
    return absl::FailedPreconditionError(
        "--exchange-integrity mac: wanted ChaCha20-Poly1305 of OpenSSL, got a library that refuses "
        "it");
  }
  return FrameMac(std::move(context));
}

void FrameMac::Begin(std::span<const uint8_t> header) {
  std::array<uint8_t, 12> nonce{};
  for (size_t i = 0; i < sizeof(number_); ++i)
    nonce[i] = static_cast<uint8_t>(number_ >> (8 * i));
  ++number_;
  SHEAF_CHECK(EVP_EncryptInit_ex(context_.get(), nullptr, nullptr, nullptr, nonce.data()) == 1,
              "a cipher takes a nonce");
  Add(header);
}

void FrameMac::Add(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), kMostAtOnce);
    int unused = 0;
    SHEAF_CHECK(EVP_EncryptUpdate(context_.get(), nullptr, &unused, bytes.data(),
                                  static_cast<int>(count)) == 1,
                "a cipher takes bytes to authenticate");
    bytes = bytes.subspan(count);
  }
}

FrameTag FrameMac::Finish() {
  FrameTag tag{};
  int unused = 0;
  const bool made =
      EVP_EncryptFinal_ex(context_.get(), tag.data(), &unused) == 1 &&
      EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, kFrameTagBytes, tag.data()) == 1;
  SHEAF_CHECK(made, "a cipher gives its tag");
  return tag;
}

}  // namespace sheaf
