#include "exchange/link/hello.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr uint32_t kHelloMagic = 0x4c454853;   // "SHEL"
constexpr uint32_t kAnswerMagic = 0x41454853;  // "SHEA"
constexpr uint32_t kProofMagic = 0x50454853;   // "SHEP"
constexpr uint32_t kProtocolVersion = 3;

// Layout of the hello.
constexpr size_t kVersionAt = 4;
constexpr size_t kModelAt = 8;
constexpr size_t kWorkerAt = 16;
constexpr size_t kRouterAt = 24;
constexpr size_t kLinkAt = 32;
constexpr size_t kIntegrityAt = 40;  // with what follows one number
constexpr size_t kRowsAt = 41;       // then 6 zero bytes
constexpr size_t kNonceAt = 48;

// Layout of the answer.
constexpr size_t kVerdictAt = 4;
constexpr size_t kAnswerIntegrityAt = 8;
constexpr size_t kBodyAt = 16;

constexpr size_t kProofAt = 8;

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
  return absl::InvalidArgumentError(
      absl::StrCat("hello: ", what, ": wanted ", wanted, ", got ", got));
}

absl::Status TakeIntegrity(uint64_t value, FrameIntegrity& integrity) {
  if (value > static_cast<uint64_t>(FrameIntegrity::kMac))
    return Wrong("integrity", "0 or 1", value);
  integrity = static_cast<FrameIntegrity>(value);
  return absl::OkStatus();
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
  Put<uint64_t>(bytes, kIntegrityAt, static_cast<uint64_t>(hello.integrity));
  bytes[kRowsAt] = hello.rows_of_8_bits ? 1 : 0;
  std::copy(hello.nonce.begin(), hello.nonce.end(), bytes.begin() + kNonceAt);
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
  Hello hello;
  hello.model_digest = Get<uint64_t>(bytes, kModelAt);
  hello.worker = InstanceId(Get<uint64_t>(bytes, kWorkerAt));
  hello.router = InstanceId(Get<uint64_t>(bytes, kRouterAt));
  hello.link = LinkId(Get<uint64_t>(bytes, kLinkAt));
  if (hello.link == LinkId()) return Wrong("link", "not 0", 0);
  const auto settings = Get<uint64_t>(bytes, kIntegrityAt);
  if (bytes[kRowsAt] > 1) return Wrong("rows", "0 or 1", int{bytes[kRowsAt]});
  hello.rows_of_8_bits = bytes[kRowsAt] == 1;
  if (absl::Status status = TakeIntegrity(settings & ~uint64_t{0xff00}, hello.integrity);
      !status.ok())
    return status;
  std::copy_n(bytes.begin() + kNonceAt, hello.nonce.size(), hello.nonce.begin());
  return hello;
}

HelloAnswerBytes EncodeHelloAnswer(const HelloAnswer& answer) {
  HelloAnswerBytes bytes{};
  Put<uint32_t>(bytes, 0, kAnswerMagic);
  Put<uint32_t>(bytes, kVerdictAt, static_cast<uint32_t>(answer.verdict));
  Put<uint64_t>(bytes, kAnswerIntegrityAt, static_cast<uint64_t>(answer.integrity));
  std::copy(answer.body.begin(), answer.body.end(), bytes.begin() + kBodyAt);
  return bytes;
}

absl::StatusOr<HelloAnswer> DecodeHelloAnswer(std::span<const uint8_t> bytes) {
  if (bytes.size() != kHelloAnswerBytes)
    return Wrong("answer's bytes", kHelloAnswerBytes, bytes.size());
  if (const auto magic = Get<uint32_t>(bytes, 0); magic != kAnswerMagic)
    return Wrong("answer's magic", kAnswerMagic, magic);
  const auto verdict = Get<uint32_t>(bytes, kVerdictAt);
  if (verdict < 1 || verdict > static_cast<uint32_t>(HelloVerdict::kOtherActivations))
    return Wrong("answer's verdict", "1..10", verdict);
  HelloAnswer answer;
  answer.verdict = static_cast<HelloVerdict>(verdict);
  if (absl::Status status =
          TakeIntegrity(Get<uint64_t>(bytes, kAnswerIntegrityAt), answer.integrity);
      !status.ok())
    return status;
  std::copy_n(bytes.begin() + kBodyAt, answer.body.size(), answer.body.begin());
  // What a verdict has no use for is zero.
  size_t used = 0;
  if (answer.verdict == HelloVerdict::kProve) used = sizeof(LinkNonce);
  if (answer.verdict == HelloVerdict::kWelcome) used = sizeof(LinkProof);
  if (std::any_of(answer.body.begin() + static_cast<ptrdiff_t>(used), answer.body.end(),
                  [](uint8_t byte) { return byte != 0; }))
    return Wrong("answer's reserved bytes", 0, "others");
  return answer;
}

HelloProofBytes EncodeHelloProof(const LinkProof& proof) {
  HelloProofBytes bytes{};
  Put<uint32_t>(bytes, 0, kProofMagic);
  std::copy(proof.begin(), proof.end(), bytes.begin() + kProofAt);
  return bytes;
}

absl::StatusOr<LinkProof> DecodeHelloProof(std::span<const uint8_t> bytes) {
  if (bytes.size() != kHelloProofBytes)
    return Wrong("proof's bytes", kHelloProofBytes, bytes.size());
  if (const auto magic = Get<uint32_t>(bytes, 0); magic != kProofMagic)
    return Wrong("proof's magic", kProofMagic, magic);
  if (const auto zero = Get<uint32_t>(bytes, 4); zero != 0)
    return Wrong("proof's reserved bytes", 0, zero);
  LinkProof proof{};
  std::copy_n(bytes.begin() + kProofAt, proof.size(), proof.begin());
  return proof;
}

std::string Describe(const Hello& hello) {
  return absl::StrFormat("link %016x of router %016x", hello.link.value(), hello.router.value());
}

absl::Status StatusOf(const HelloAnswer& answer, const Hello& hello) {
  switch (answer.verdict) {
    case HelloVerdict::kWelcome:
    case HelloVerdict::kProve:
      return absl::OkStatus();
    case HelloVerdict::kOtherVersion:
      return absl::FailedPreconditionError(
          absl::StrCat("the worker speaks another protocol version, not ", kProtocolVersion));
    case HelloVerdict::kOtherModel:
      return absl::FailedPreconditionError("the worker serves another checkpoint");
    case HelloVerdict::kOtherIntegrity:
      return absl::FailedPreconditionError(
          absl::StrFormat("--exchange-integrity: this router has %s, the worker has %s",
                          NameOf(hello.integrity), NameOf(answer.integrity)));
    case HelloVerdict::kOtherActivations:
      return absl::FailedPreconditionError(
          "--activation-bits: this router has 8, the worker's device takes 16 alone");
    case HelloVerdict::kOtherInstance:
      return absl::UnavailableError("the worker is gone; another process has its address");
    case HelloVerdict::kWrongKey:
      return absl::UnauthenticatedError("the worker refused the key of this link");
    case HelloVerdict::kReplayed:
      return absl::UnavailableError("the worker has heard this very hello before");
    case HelloVerdict::kBusy:
      return absl::UnavailableError("the worker has no room for another link");
  }
  return absl::UnavailableError("the worker answered the hello with an unknown verdict");
}

}  // namespace sheaf
