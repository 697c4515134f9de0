#pragma once
// The messages that begin a link, the same over every byte mover (link_handshake.h says who sends
// which when). Nothing else is read from a connection before.
//
//   Hello        64 bytes, the router's: magic, protocol version, model digest, worker instance,
//                router instance, link, integrity (1 byte), rows (1 byte: 0 of 16 bits, 1 of 8),
//                6 zero bytes, nonce (16 bytes)
//   HelloAnswer  48 bytes, the worker's, twice: magic, verdict, integrity (1 byte), 7 zero bytes,
//                32 bytes: its nonce (kProve), its proof (kWelcome) or zeros (the rest)
//   HelloProof   40 bytes, the router's: magic, 4 zero bytes, proof
//
// Errors     Decode: kInvalidArgument naming field, wanted and got; never a key or a proof.
// Threads    pure.

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "exchange/link/frame_mac.h"
#include "exchange/link/link_keys.h"

namespace sheaf {

struct Hello {
  uint64_t model_digest = 0;
  InstanceId worker;  // whom the router means
  InstanceId router;
  LinkId link;  // chosen by the router, never used before
  FrameIntegrity integrity = FrameIntegrity::kNone;
  LinkNonce nonce{};
  bool rows_of_8_bits = false;  // in the router's dispatches, instead of 16
  friend bool operator==(const Hello&, const Hello&) = default;
};

enum class HelloVerdict : uint32_t {
  kWelcome = 1,
  kOtherVersion = 2,
  kOtherModel = 3,
  kOtherInstance = 4,  // the process that the router means has gone; this one has its address
  kWrongKey = 5,
  kBusy = 6,               // too many links
  kOtherIntegrity = 7,     // the sides' --exchange-integrity differ
  kReplayed = 8,           // a hello that was heard before
  kProve = 9,              // so far so good
  kOtherActivations = 10,  // 8 bits, and the worker takes 16 alone
};

struct HelloAnswer {
  HelloVerdict verdict = HelloVerdict::kProve;
  FrameIntegrity integrity = FrameIntegrity::kNone;  // the worker's
  std::array<uint8_t, 32> body{};
  friend bool operator==(const HelloAnswer&, const HelloAnswer&) = default;
};

inline constexpr size_t kHelloBytes = 64;
inline constexpr size_t kHelloAnswerBytes = 48;
inline constexpr size_t kHelloProofBytes = 40;
using HelloBytes = std::array<uint8_t, kHelloBytes>;
using HelloAnswerBytes = std::array<uint8_t, kHelloAnswerBytes>;
using HelloProofBytes = std::array<uint8_t, kHelloProofBytes>;

HelloBytes EncodeHello(const Hello& hello);
// Another protocol version comes as kFailedPrecondition.
absl::StatusOr<Hello> DecodeHello(std::span<const uint8_t> bytes);
HelloAnswerBytes EncodeHelloAnswer(const HelloAnswer& answer);
absl::StatusOr<HelloAnswer> DecodeHelloAnswer(std::span<const uint8_t> bytes);
HelloProofBytes EncodeHelloProof(const LinkProof& proof);
absl::StatusOr<LinkProof> DecodeHelloProof(std::span<const uint8_t> bytes);

// "link .. of router ..", for messages.
std::string Describe(const Hello& hello);

// What a router that said `hello` logs of an answer: OK for kWelcome and kProve;
// kFailedPrecondition for another version, model, integrity or activations (it will not get
// better), kUnauthenticated for the key, kUnavailable for the rest.
absl::Status StatusOf(const HelloAnswer& answer, const Hello& hello);

}  // namespace sheaf
