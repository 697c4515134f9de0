#include "exchange/link/link_handshake.h"

#include <algorithm>

#include "base/status.h"

namespace sheaf {
namespace {

constexpr char kRouterProof[] = "router's proof";
constexpr char kWorkerProof[] = "worker's proof";

Hello HelloOf(const LinkRequest& request, FrameIntegrity integrity, const LinkNonce& nonce) {
  return {request.model_digest,  request.worker, request.router, request.link, integrity, nonce,
          request.rows_of_8_bits};
}

LinkProof ProofOf(const LinkKey& key, const char* whose, const HelloBytes& hello,
                  const HelloAnswerBytes& challenge) {
  return DeriveFrom(key.bytes, whose, {hello, challenge});
}

std::optional<FrameKeys> KeysOf(const LinkKey& key, FrameIntegrity integrity,
                                const HelloBytes& hello, const HelloAnswerBytes& challenge) {
  if (integrity == FrameIntegrity::kNone) return std::nullopt;
  return FrameKeys{{DeriveFrom(key.bytes, "frames to worker", {hello, challenge})},
                   {DeriveFrom(key.bytes, "frames to router", {hello, challenge})}};
}

absl::Status OutOfTurn() { return absl::UnavailableError("the worker answered out of turn"); }

}  // namespace

RouterHandshake::RouterHandshake(const LinkRequest& request, FrameIntegrity integrity,
                                 const LinkNonce& nonce)
    : key_(request.key),
      hello_(HelloOf(request, integrity, nonce)),
      hello_bytes_(EncodeHello(hello_)) {}

absl::StatusOr<HelloProofBytes> RouterHandshake::Prove(std::span<const uint8_t> bytes) {
  SHEAF_ASSIGN_OR_RETURN(const HelloAnswer answer, DecodeHelloAnswer(bytes));
  SHEAF_RETURN_IF_ERROR(StatusOf(answer, hello_));
  if (answer.verdict != HelloVerdict::kProve) return OutOfTurn();
  std::copy(bytes.begin(), bytes.end(), challenge_.begin());
  return EncodeHelloProof(ProofOf(key_, kRouterProof, hello_bytes_, challenge_));
}

absl::StatusOr<std::optional<FrameKeys>> RouterHandshake::Finish(
    std::span<const uint8_t> bytes) const {
  SHEAF_ASSIGN_OR_RETURN(const HelloAnswer answer, DecodeHelloAnswer(bytes));
  SHEAF_RETURN_IF_ERROR(StatusOf(answer, hello_));
  if (answer.verdict != HelloVerdict::kWelcome) return OutOfTurn();
  if (!SameBytes(answer.body, ProofOf(key_, kWorkerProof, hello_bytes_, challenge_)))
    return absl::UnauthenticatedError("who answers does not know the key of this link");
  return KeysOf(key_, hello_.integrity, hello_bytes_, challenge_);
}

WorkerHandshake::WorkerHandshake(const LinkIdentity& self, FrameIntegrity integrity,
                                 const LinkNonce& nonce)
    : self_(self), integrity_(integrity), nonce_(nonce) {}

absl::StatusOr<HelloVerdict> WorkerHandshake::TakeHello(std::span<const uint8_t> bytes) {
  const absl::StatusOr<Hello> hello = DecodeHello(bytes);
  if (absl::IsFailedPrecondition(hello.status())) return HelloVerdict::kOtherVersion;
  if (!hello.ok()) return hello.status();
  hello_ = *hello;
  std::copy(bytes.begin(), bytes.end(), hello_bytes_.begin());
  if (hello_.worker != self_.instance) return HelloVerdict::kOtherInstance;
  if (hello_.model_digest != self_.model_digest) return HelloVerdict::kOtherModel;
  if (hello_.integrity != integrity_) return HelloVerdict::kOtherIntegrity;
  if (hello_.rows_of_8_bits && !self_.takes_8_bits) return HelloVerdict::kOtherActivations;
  key_ = LinkKeyFor(self_.secret, self_.instance, hello_.router);
  return HelloVerdict::kProve;
}

absl::StatusOr<HelloVerdict> WorkerHandshake::TakeProof(std::span<const uint8_t> bytes) {
  SHEAF_ASSIGN_OR_RETURN(const LinkProof proof, DecodeHelloProof(bytes));
  const LinkProof wanted =
      ProofOf(key_, kRouterProof, hello_bytes_, Answer(HelloVerdict::kProve));
  return SameBytes(proof, wanted) ? HelloVerdict::kWelcome : HelloVerdict::kWrongKey;
}

HelloAnswerBytes WorkerHandshake::Answer(HelloVerdict verdict) const {
  HelloAnswer answer{verdict, integrity_, {}};
  if (verdict == HelloVerdict::kProve) {
    std::copy(nonce_.begin(), nonce_.end(), answer.body.begin());
  } else if (verdict == HelloVerdict::kWelcome) {
    answer.body = ProofOf(key_, kWorkerProof, hello_bytes_, Answer(HelloVerdict::kProve));
  }
  return EncodeHelloAnswer(answer);
}

std::optional<FrameKeys> WorkerHandshake::keys() const {
  return KeysOf(key_, integrity_, hello_bytes_, Answer(HelloVerdict::kProve));
}

}  // namespace sheaf
