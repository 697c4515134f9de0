#pragma once
// The keys of links, each made from the one above it, none ever sent over a link.
//
//   LinkSecret   256 random bits that a worker makes for its life and tells the coordinator alone
//   LinkKey      of one router and one worker, of this life of both: from the secret and their
//                instances. The coordinator makes it for the router, the worker for itself: a
//                router can speak for no other.
//   FrameKeys    of one link and direction, and the proofs of the hello: from the link's key and
//                all that was said in the hello, with a fresh nonce of each side
//
// Every step is HMAC-SHA256 under a label of its own.
// Threads    pure, but FreshNonce asks the kernel.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/ids.h"

namespace sheaf {

using LinkSecret = std::array<uint8_t, 32>;
using LinkNonce = std::array<uint8_t, 16>;
using LinkProof = std::array<uint8_t, 32>;

struct LinkKey {
  std::array<uint8_t, 32> bytes{};
  friend bool operator==(const LinkKey&, const LinkKey&) = default;
};

struct FrameKey {
  std::array<uint8_t, 32> bytes{};
  friend bool operator==(const FrameKey&, const FrameKey&) = default;
};
struct FrameKeys {
  FrameKey to_worker;
  FrameKey to_router;
};

LinkKey LinkKeyFor(const LinkSecret& secret, InstanceId worker, InstanceId router);

// HMAC-SHA256 of `label` (at most 16 bytes, padded with zeros) and the parts, one after another.
std::array<uint8_t, 32> DeriveFrom(std::span<const uint8_t> key, const char* label,
                                   std::initializer_list<std::span<const uint8_t>> parts);

// Takes as long for a proof that is nearly right as for any other.
bool SameBytes(std::span<const uint8_t> a, std::span<const uint8_t> b);

// From the kernel's randomness.
LinkNonce FreshNonce();

}  // namespace sheaf
