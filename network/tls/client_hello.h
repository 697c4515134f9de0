#pragma once
// What a TLS client says first, as far as a listener must know before anybody answers: whether it
// is TLS at all, and whether the client speaks the newest version.
//
// Threads    pure. Bounds: nothing is read beyond `bytes`, whatever lengths they tell.

#include <cstddef>
#include <cstdint>
#include <span>

namespace sheaf {

enum class ClientHello {
  kUnfinished,  // more of it must come
  kNoTls,
  kOld,     // TLS, up to 1.2
  kNewest,  // 1.3 is among its versions
};

// A hello is not longer than this; what is counts as kNoTls.
inline constexpr size_t kMaxClientHelloBytes = 16 << 10;

// `bytes`: the connection's first, of which there may be more.
ClientHello ReadClientHello(std::span<const uint8_t> bytes);

}  // namespace sheaf
