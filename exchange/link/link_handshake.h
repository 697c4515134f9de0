#pragma once
// Both sides of the hello that begins a link. Each side proves that it has the link's key, and the
// key is never sent; whoever reads along, records or replays learns nothing that opens a link.
//
//   router                                              worker
//   Hello: who it is, whom it means, its nonce    -->
//                                                 <--   kProve and its nonce, or why not
//   proof over all of the above                   -->
//                                                 <--   kWelcome and its own proof, or why not
//
// Both nonces are fresh, so no proof fits another hello; what was said, integrity included, is
// under the proofs, so nobody between the two changes it unseen. The frames' keys come of the same
// words, one a direction.
//
// Threads    one at a time; pure: the nonces come from the caller (FreshNonce), one for each try.
// Errors     kInvalidArgument: no message of this kind. A router's: as StatusOf, kUnauthenticated
//            for a worker that does not know the key.

#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "exchange/link/hello.h"

namespace sheaf {

// The link that a router wants, and its key.
struct LinkRequest {
  uint64_t model_digest = 0;
  InstanceId worker;
  InstanceId router;
  LinkId link;  // never used before
  LinkKey key;
  bool rows_of_8_bits = false;  // in its dispatches, instead of 16
};

// Who a worker is to those that say hello.
struct LinkIdentity {
  uint64_t model_digest = 0;
  InstanceId instance;
  LinkSecret secret{};
  bool takes_8_bits = true;  // rows of them, beside those of 16
};

class RouterHandshake {
 public:
  RouterHandshake(const LinkRequest& request, FrameIntegrity integrity, const LinkNonce& nonce);

  const HelloBytes& hello() const { return hello_bytes_; }
  // To the first answer.
  absl::StatusOr<HelloProofBytes> Prove(std::span<const uint8_t> answer);
  // With the second answer the link is there; its keys are nullopt without integrity.
  absl::StatusOr<std::optional<FrameKeys>> Finish(std::span<const uint8_t> answer) const;

 private:
  const LinkKey key_;
  const Hello hello_;
  const HelloBytes hello_bytes_;
  HelloAnswerBytes challenge_{};
};

class WorkerHandshake {
 public:
  WorkerHandshake(const LinkIdentity& self, FrameIntegrity integrity, const LinkNonce& nonce);

  // kProve, or why not. The instance comes first: what another process serves says nothing about
  // the one that is meant.
  absl::StatusOr<HelloVerdict> TakeHello(std::span<const uint8_t> bytes);
  // kWelcome or kWrongKey.
  absl::StatusOr<HelloVerdict> TakeProof(std::span<const uint8_t> bytes);
  HelloAnswerBytes Answer(HelloVerdict verdict) const;

  const Hello& hello() const { return hello_; }  // after TakeHello
  std::optional<FrameKeys> keys() const;         // after kWelcome

 private:
  const LinkIdentity self_;
  const FrameIntegrity integrity_;
  const LinkNonce nonce_;
  Hello hello_;
  HelloBytes hello_bytes_{};
  LinkKey key_;
};

}  // namespace sheaf
