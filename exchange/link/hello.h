#pragma once
// The hello that begins a link, the same over every byte mover. The router says who it is, whom it
// looks for and the secret that the control plane gave it; the worker answers yes, or why not.
// Nothing else is read from a connection before.
//
//   Hello        64 bytes: magic, protocol version, model digest, worker instance, router instance,
//                link, secret (16 bytes)
//   HelloAnswer  16 bytes: magic, verdict
//
// Secret     128 random bits that a worker makes for its life and tells the coordinator alone;
//            compared in constant time.
// Errors     Decode: kInvalidArgument. CheckHello is the verdict; its text names wanted and got, never
//            the secret.
// Threads    pure.

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"

namespace sheaf {

using LinkSecret = std::array<uint8_t, 16>;

struct Hello {
  uint64_t model_digest = 0;
  InstanceId worker;  // whom the router means
  InstanceId router;
  LinkId link;  // chosen by the router, never used before
  LinkSecret secret{};
  friend bool operator==(const Hello&, const Hello&) = default;
};

enum class HelloVerdict : uint32_t {
  kWelcome = 1,
  kOtherVersion = 2,
  kOtherModel = 3,
  kOtherInstance = 4,  // the process that the router means has gone; this one has its address
  kWrongSecret = 5,
  kBusy = 6,  // too many links
};

inline constexpr size_t kHelloBytes = 64;
inline constexpr size_t kHelloAnswerBytes = 16;
using HelloBytes = std::array<uint8_t, kHelloBytes>;
using HelloAnswerBytes = std::array<uint8_t, kHelloAnswerBytes>;

HelloBytes EncodeHello(const Hello& hello);
// kOtherVersion comes as kFailedPrecondition.
absl::StatusOr<Hello> DecodeHello(std::span<const uint8_t> bytes);
HelloAnswerBytes EncodeHelloAnswer(HelloVerdict verdict);
absl::StatusOr<HelloVerdict> DecodeHelloAnswer(std::span<const uint8_t> bytes);

// Who a worker is to those that say hello.
struct LinkIdentity {
  uint64_t model_digest = 0;
  InstanceId instance;
  LinkSecret secret{};
};
HelloVerdict CheckHello(const Hello& hello, const LinkIdentity& self);

// OK for kWelcome; else what the router logs: kFailedPrecondition for another version or model
// (it will not get better), kUnavailable for the rest.
absl::Status StatusOf(HelloVerdict verdict);

}  // namespace sheaf
