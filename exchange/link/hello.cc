#include "exchange/link/hello.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sheaf {
namespace {

constexpr uint32_t kHelloMagic = 0x4c454853;   // "SHEL"
constexpr uint32_t kAnswerMagic = 0x41454853;  // "SHEA"
constexpr uint32_t kProtocolVersion = 2;

// Layout of the hello; the last eight bytes are zero.
constexpr size_t kVersionAt = 4;
constexpr size_t kModelAt = 8;
constexpr size_t kWorkerAt = 16;
constexpr size_t kRouterAt = 24;
constexpr size_t kLinkAt = 32;
constexpr size_t kSecretAt = 40;
constexpr size_t kZeroAt = 56;

template <typename T, size_t N>
void Put(std::array<uint8_t, N>& bytes, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) bytes[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

template <typename T>
T Get(std::span<const uint8_t> bytes, size_t at) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(bytes[at + i]) << (8 * i);
  return value;
}

template <typename W, typename G>
absl::Status Wrong(const char* what, const W& wanted, const G& got) {
  return absl::InvalidArgumentError(absl::StrCat("hello: ", what, ": wanted ", wanted, ", got ", got));
}

// Takes as long for a secret that is nearly right as for any other.
bool SameSecret(const LinkSecret& a, const LinkSecret& b) {
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference = static_cast<uint8_t>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

}  // namespace

HelloBytes EncodeHello(const Hello& hello) {
  HelloBytes bytes{};
  Put<uint32_t>(bytes, 0, kHelloMagic);
  Put<uint32_t>(bytes, kVersionAt, kProtocolVersion);
  Put<uint64_t>(bytes, kModelAt, hello.model_digest);
  Put<uint64_t>(bytes, kWorkerAt, hello.worker.value());
  Put<uint64_t>(bytes, kRouterAt, hello.router.value());
  Put<uint64_t>(bytes, kLinkAt, hello.link.value());
  std::copy(hello.secret.begin(), hello.secret.end(), bytes.begin() + kSecretAt);
  return bytes;
}

absl::StatusOr<Hello> DecodeHello(std::span<const uint8_t> bytes) {
  if (bytes.size() != kHelloBytes) return Wrong("bytes", kHelloBytes, bytes.size());
  if (const auto magic = Get<uint32_t>(bytes, 0); magic != kHelloMagic)
    return Wrong("magic", kHelloMagic, magic);
  if (const auto version = Get<uint32_t>(bytes, kVersionAt); version != kProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("hello: protocol version: wanted ", kProtocolVersion, ", got ", version));
  }
  if (const auto zero = Get<uint64_t>(bytes, kZeroAt); zero != 0)
    return Wrong("reserved bytes", 0, zero);
  Hello hello;
  hello.model_digest = Get<uint64_t>(bytes, kModelAt);
  hello.worker = InstanceId(Get<uint64_t>(bytes, kWorkerAt));
  hello.router = InstanceId(Get<uint64_t>(bytes, kRouterAt));
  hello.link = LinkId(Get<uint64_t>(bytes, kLinkAt));
  if (hello.link == LinkId()) return Wrong("link", "not 0", 0);
  std::copy_n(bytes.begin() + kSecretAt, hello.secret.size(), hello.secret.begin());
  return hello;
}

HelloAnswerBytes EncodeHelloAnswer(HelloVerdict verdict) {
  HelloAnswerBytes bytes{};
  Put<uint32_t>(bytes, 0, kAnswerMagic);
  Put<uint32_t>(bytes, 4, static_cast<uint32_t>(verdict));
  return bytes;
}

absl::StatusOr<HelloVerdict> DecodeHelloAnswer(std::span<const uint8_t> bytes) {
  if (bytes.size() != kHelloAnswerBytes)
    return Wrong("answer's bytes", kHelloAnswerBytes, bytes.size());
  if (const auto magic = Get<uint32_t>(bytes, 0); magic != kAnswerMagic)
    return Wrong("answer's magic", kAnswerMagic, magic);
  const auto verdict = Get<uint32_t>(bytes, 4);
  if (verdict < 1 || verdict > static_cast<uint32_t>(HelloVerdict::kBusy))
    return Wrong("answer's verdict", "1..6", verdict);
  if (const auto zero = Get<uint64_t>(bytes, 8); zero != 0)
    return Wrong("answer's reserved bytes", 0, zero);
  return static_cast<HelloVerdict>(verdict);
}

// The instance first: what another process serves says nothing about the one that is meant. The
// secret last: only a router that knows the rest learns anything about it.
HelloVerdict CheckHello(const Hello& hello, const LinkIdentity& self) {
  if (hello.worker != self.instance) return HelloVerdict::kOtherInstance;
  if (hello.model_digest != self.model_digest) return HelloVerdict::kOtherModel;
  if (!SameSecret(hello.secret, self.secret)) return HelloVerdict::kWrongSecret;
  return HelloVerdict::kWelcome;
}

absl::Status StatusOf(HelloVerdict verdict) {
  switch (verdict) {
    case HelloVerdict::kWelcome:
      return absl::OkStatus();
    case HelloVerdict::kOtherVersion:
      return absl::FailedPreconditionError(
          absl::StrCat("the worker speaks another protocol version, not ", kProtocolVersion));
    case HelloVerdict::kOtherModel:
      return absl::FailedPreconditionError("the worker serves another checkpoint");
    case HelloVerdict::kOtherInstance:
      return absl::UnavailableError("the worker is gone; another process has its address");
    case HelloVerdict::kWrongSecret:
      return absl::UnavailableError("the worker refused the secret of this link");
    case HelloVerdict::kBusy:
      return absl::UnavailableError("the worker has no room for another link");
  }
  return absl::UnavailableError("the worker answered the hello with an unknown verdict");
}

}  // namespace sheaf
