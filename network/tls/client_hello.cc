#include "network/tls/client_hello.h"

#include <algorithm>
#include <vector>

namespace sheaf {
namespace {

constexpr uint8_t kHandshakeRecord = 0x16;
constexpr uint8_t kClientHelloMessage = 0x01;
constexpr uint8_t kMajorVersion = 0x03;
constexpr uint16_t kSupportedVersions = 43;
constexpr uint16_t kTls13 = 0x0304;

// Takes fields from the front; once one is not there, nothing is.
class Fields {
 public:
  explicit Fields(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  size_t Number(size_t width) {
    size_t value = 0;
    for (const uint8_t byte : Take(width)) value = value << 8 | byte;
    return value;
  }
  std::span<const uint8_t> Take(size_t size) {
    if (size > bytes_.size()) {
      good_ = false;
      bytes_ = {};
      return {};
    }
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }
  // A number of bytes in `width` bytes, then those.
  Fields Vector(size_t width) { return Fields(Take(Number(width))); }
  bool empty() const { return bytes_.empty(); }
  bool good() const { return good_; }

 private:
  std::span<const uint8_t> bytes_;
  bool good_ = true;
};

bool OffersNewest(Fields hello) {
  hello.Take(2 + 32);  // version and random
  hello.Vector(1);     // session
  hello.Vector(2);     // ciphers
  hello.Vector(1);     // compressions
  Fields extensions = hello.Vector(2);
  while (!extensions.empty()) {
    const size_t kind = extensions.Number(2);
    Fields extension = extensions.Vector(2);
    if (kind != kSupportedVersions) continue;
    Fields versions = extension.Vector(1);
    while (!versions.empty()) {
      if (versions.Number(2) == kTls13 && versions.good()) return true;
    }
  }
  return false;
}

}  // namespace

ClientHello ReadClientHello(std::span<const uint8_t> bytes) {
  const ClientHello unfinished = bytes.size() >= kMaxClientHelloBytes ? ClientHello::kNoTls
                                                                      : ClientHello::kUnfinished;
  // The message may be cut into several records.
  std::vector<uint8_t> message;
  for (;;) {
    if (bytes.empty()) return unfinished;
    if (bytes[0] != kHandshakeRecord) return ClientHello::kNoTls;
    if (bytes.size() >= 2 && bytes[1] != kMajorVersion) return ClientHello::kNoTls;
    if (bytes.size() < 5) return unfinished;
    const size_t length = size_t{bytes[3]} << 8 | bytes[4];
    if (length == 0) return ClientHello::kNoTls;
    bytes = bytes.subspan(5);
    const auto body = bytes.first(std::min(length, bytes.size()));
    message.insert(message.end(), body.begin(), body.end());
    bytes = bytes.subspan(body.size());
    if (!message.empty() && message[0] != kClientHelloMessage) return ClientHello::kNoTls;
    if (message.size() >= 4) {
      Fields fields(message);
      fields.Take(1);
      const size_t size = fields.Number(3);
      if (size > kMaxClientHelloBytes) return ClientHello::kNoTls;
      if (const auto hello = fields.Take(size); fields.good()) {
        return OffersNewest(Fields(hello)) ? ClientHello::kNewest : ClientHello::kOld;
      }
    }
    if (body.size() < length) return unfinished;
  }
}

}  // namespace sheaf
