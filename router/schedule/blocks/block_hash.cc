#include "router/schedule/blocks/block_hash.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>

#include "base/check.h"

namespace sheaf {
namespace {

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
struct FreeDigest {
  void operator()(EVP_MD* digest) const { EVP_MD_free(digest); }
};

const EVP_MD* Sha256() {
  static const std::unique_ptr<EVP_MD, FreeDigest> digest(EVP_MD_fetch(nullptr, "SHA256", nullptr));
  SHEAF_CHECK(digest != nullptr, "OpenSSL has SHA-256");
  return digest.get();
}

enum class Domain : uint8_t { kRoot = 0, kBlock = 1 };

BlockHash Hash(const BlockHashKey& key, Domain domain, std::span<const uint8_t> parent,
               std::span<const uint8_t> bytes) {
  thread_local const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest;
  const auto tag = static_cast<uint8_t>(domain);
  const bool done = EVP_DigestInit_ex(context.get(), Sha256(), nullptr) == 1 &&
                    EVP_DigestUpdate(context.get(), key.data(), key.size()) == 1 &&
                    EVP_DigestUpdate(context.get(), &tag, 1) == 1 &&
                    EVP_DigestUpdate(context.get(), parent.data(), parent.size()) == 1 &&
                    EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) == 1 &&
                    EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) == 1;
  SHEAF_CHECK(done, "SHA-256 of a few bytes does not fail");
  BlockHash hash;
  std::memcpy(hash.words.data(), digest.data(), sizeof hash.words);
  return hash;
}

template <typename T>
std::span<const uint8_t> BytesOf(std::span<const T> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()};
}

}  // namespace

BlockHashKey RandomBlockHashKey() {
  std::random_device device;
  BlockHashKey key;
  for (size_t i = 0; i < key.size(); i += sizeof(uint32_t)) {
    const uint32_t word = device();
    std::memcpy(key.data() + i, &word, sizeof word);
  }
  return key;
}

BlockHash BlockHasher::Root(std::string_view cache_salt) const {
  const std::span<const char> salt(cache_salt.data(), cache_salt.size());
  return Hash(key_, Domain::kRoot, {}, BytesOf(salt));
}

BlockHash BlockHasher::Next(const BlockHash& parent, std::span<const TokenId> block) const {
  const std::span<const uint64_t> words(parent.words);
  return Hash(key_, Domain::kBlock, BytesOf(words), BytesOf(block));
}

void BlockHashChain::Extend(const BlockHasher& hasher, std::string_view cache_salt,
                            std::span<const TokenId> tokens, int block_size) {
  const auto length = static_cast<size_t>(block_size);
  if (hashes_.empty()) hashes_.push_back(hasher.Root(cache_salt));
  for (size_t end = hashes_.size() * length; end <= tokens.size(); end += length) {
    hashes_.push_back(hasher.Next(hashes_.back(), tokens.subspan(end - length, length)));
  }
}

}  // namespace sheaf
