// Tags of frames: what one stands for.

#include "exchange/link/frame_mac.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <memory>
#include <string>
#include <vector>

namespace sheaf {
namespace {

std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

FrameMac MacOf(uint8_t key_byte) {
  FrameKey key;
  key.bytes.fill(key_byte);
  auto mac = FrameMac::Create(key);
  EXPECT_TRUE(mac.ok()) << mac.status();
  return *std::move(mac);
}

FrameTag TagOf(FrameMac& mac, const std::string& header, const std::string& payload) {
  mac.Begin(Bytes(header));
  mac.Add(Bytes(payload));
  return mac.Finish();
}

TEST(FrameMac, BothEndsCountTheSame) {
  FrameMac sender = MacOf(1), receiver = MacOf(1);
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(TagOf(sender, "head", "payload"), TagOf(receiver, "head", "payload")) << i;
}

TEST(FrameMac, DependsOnKeyNumberHeaderAndPayload) {
  FrameMac first = MacOf(1), second = MacOf(1), other_key = MacOf(2);
  const FrameTag tag = TagOf(first, "head", "payload");
  EXPECT_NE(tag, TagOf(first, "head", "payload"));  // the next number
  EXPECT_NE(tag, TagOf(other_key, "head", "payload"));
  EXPECT_NE(tag, TagOf(second, "heaD", "payload"));
  FrameMac third = MacOf(1), fourth = MacOf(1);
  EXPECT_NE(tag, TagOf(third, "head", "payloaD"));
  EXPECT_NE(tag, TagOf(fourth, "head", "payloadd"));
}

TEST(FrameMac, PiecesDoNotMatter) {
  const std::string payload(100'003, 'x');
  FrameMac whole = MacOf(1), pieces = MacOf(1);
  const FrameTag tag = TagOf(whole, "head", payload);
  pieces.Begin(Bytes("head"));
  const auto bytes = Bytes(payload);
  for (size_t at = 0, step = 1; at < bytes.size(); at += step, step = step * 2 + 1)
    pieces.Add(bytes.subspan(at, std::min(step, bytes.size() - at)));
  EXPECT_EQ(tag, pieces.Finish());
}

// The same as OpenSSL's cipher set up afresh for that number: none of the one before stays behind.
TEST(FrameMac, IsChaCha20Poly1305OfTheFramesNumber) {
  FrameMac mac = MacOf(7);
  TagOf(mac, "earlier", "frame");
  const FrameTag tag = TagOf(mac, "head", "payload");

  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> fresh(
      EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  const std::vector<uint8_t> key(32, 7);
  const uint8_t nonce[12] = {1};
  const std::string text = "headpayload";
  int unused = 0;
  FrameTag wanted{};
  ASSERT_EQ(
      EVP_EncryptInit_ex(fresh.get(), EVP_chacha20_poly1305(), nullptr, key.data(), nonce), 1);
  ASSERT_EQ(EVP_EncryptUpdate(fresh.get(), nullptr, &unused, Bytes(text).data(),
                              static_cast<int>(text.size())),
            1);
  ASSERT_EQ(EVP_EncryptFinal_ex(fresh.get(), wanted.data(), &unused), 1);
  ASSERT_EQ(EVP_CIPHER_CTX_ctrl(fresh.get(), EVP_CTRL_AEAD_GET_TAG, 16, wanted.data()), 1);
  EXPECT_EQ(tag, wanted);
}

}  // namespace
}  // namespace sheaf
