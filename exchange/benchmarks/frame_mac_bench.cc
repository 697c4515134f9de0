// Which keyed MAC authenticates frames: bytes a second of what OpenSSL has, a tag a frame under one
// key, at the sizes that frames have (an announcement, a few tokens, a combine, a prefill's part).
//
//   gmac          AES-128-GCM without a plaintext: a number a frame as its nonce
//   chacha_poly   ChaCha20-Poly1305 without a plaintext, likewise
//   poly1305      alone, for its speed: it needs a fresh key a frame, which is not counted
//   hmac_sha256, kmac128, blake2b, siphash (tag of 8 bytes): without a nonce

#include <benchmark/benchmark.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "exchange/wire/frame.h"

namespace sheaf {
namespace {

struct Free {
  void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
  void operator()(EVP_CIPHER* c) const { EVP_CIPHER_free(c); }
  void operator()(EVP_MAC* m) const { EVP_MAC_free(m); }
  void operator()(EVP_MAC_CTX* c) const { EVP_MAC_CTX_free(c); }
};

constexpr std::array<uint8_t, 32> kKey{1, 2, 3, 4, 5, 6, 7, 8};

void Sizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t bytes : {1 << 10, 10 << 10, 160 << 10, 1 << 20}) bench->Arg(bytes);
}

void Aead(benchmark::State& state, const char* name) {
  const std::unique_ptr<EVP_CIPHER, Free> cipher(EVP_CIPHER_fetch(nullptr, name, nullptr));
  const std::unique_ptr<EVP_CIPHER_CTX, Free> context(EVP_CIPHER_CTX_new());
  std::vector<uint8_t> payload(static_cast<size_t>(state.range(0)), 7);
  const FrameHeaderBytes header{};
  std::array<uint8_t, 12> nonce{};
  std::array<uint8_t, 16> tag{};
  bool good = cipher != nullptr && EVP_EncryptInit_ex2(context.get(), cipher.get(), kKey.data(),
                                                       nonce.data(), nullptr) == 1;
  uint64_t number = 0;
  for (auto _ : state) {
    ++number;
    for (size_t i = 0; i < 8; ++i) nonce[i] = static_cast<uint8_t>(number >> (8 * i));
    int out = 0;
    good = good && EVP_EncryptInit_ex2(context.get(), nullptr, nullptr, nonce.data(), nullptr) == 1;
    good = good && EVP_EncryptUpdate(context.get(), nullptr, &out, header.data(),
                                     static_cast<int>(header.size())) == 1;
    good = good && EVP_EncryptUpdate(context.get(), nullptr, &out, payload.data(),
                                     static_cast<int>(payload.size())) == 1;
    good = good && EVP_EncryptFinal_ex(context.get(), tag.data(), &out) == 1;
    good = good && EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, 16, tag.data()) == 1;
    benchmark::DoNotOptimize(tag);
  }
  if (!good) state.SkipWithError("not in this OpenSSL");
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void Mac(benchmark::State& state, const char* name, const char* of, size_t key_bytes) {
  const std::unique_ptr<EVP_MAC, Free> mac(EVP_MAC_fetch(nullptr, name, nullptr));
  if (mac == nullptr) return state.SkipWithError("not in this OpenSSL");
  const std::unique_ptr<EVP_MAC_CTX, Free> context(EVP_MAC_CTX_new(mac.get()));
  std::vector<uint8_t> payload(static_cast<size_t>(state.range(0)), 7);
  const FrameHeaderBytes header{};
  std::array<uint8_t, 64> tag{};
  OSSL_PARAM params[2] = {OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end()};
  if (of != nullptr)
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>(of), 0);
  bool good = true;
  for (auto _ : state) {
    size_t out = 0;
    good = good && EVP_MAC_init(context.get(), kKey.data(), key_bytes, params) == 1;
    good = good && EVP_MAC_update(context.get(), header.data(), header.size()) == 1;
    good = good && EVP_MAC_update(context.get(), payload.data(), payload.size()) == 1;
    good = good && EVP_MAC_final(context.get(), tag.data(), &out, tag.size()) == 1;
    benchmark::DoNotOptimize(tag);
  }
  if (!good) state.SkipWithError("it refused");
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

BENCHMARK_CAPTURE(Aead, gmac, "AES-128-GCM")->Apply(Sizes);
BENCHMARK_CAPTURE(Aead, chacha_poly, "ChaCha20-Poly1305")->Apply(Sizes);
BENCHMARK_CAPTURE(Mac, poly1305, "POLY1305", nullptr, 32)->Apply(Sizes);
BENCHMARK_CAPTURE(Mac, hmac_sha256, "HMAC", "SHA256", 32)->Apply(Sizes);
BENCHMARK_CAPTURE(Mac, kmac128, "KMAC-128", nullptr, 32)->Apply(Sizes);
BENCHMARK_CAPTURE(Mac, blake2b, "BLAKE2BMAC", nullptr, 32)->Apply(Sizes);
BENCHMARK_CAPTURE(Mac, siphash, "SIPHASH", nullptr, 16)->Apply(Sizes);

}  // namespace
}  // namespace sheaf

BENCHMARK_MAIN();
