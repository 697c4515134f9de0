#pragma once
// JsonTypes: which types a JSON value may have, as a small set.

#include <cstdint>

namespace sheaf {

enum class JsonType : uint8_t { kNull, kInteger, kNumber, kBoolean, kObject, kArray, kString };

class JsonTypes {
 public:
  constexpr JsonTypes() = default;  // none
  constexpr JsonTypes(JsonType type) : bits_(static_cast<uint8_t>(1u << static_cast<int>(type))) {}

  static constexpr JsonTypes All() { return JsonTypes(uint8_t{0x7F}); }

  constexpr bool Has(JsonType type) const { return (bits_ & JsonTypes(type).bits_) != 0; }
  constexpr bool empty() const { return bits_ == 0; }

  friend constexpr JsonTypes operator|(JsonTypes a, JsonTypes b) {
    return JsonTypes(static_cast<uint8_t>(a.bits_ | b.bits_));
  }
  friend constexpr JsonTypes operator&(JsonTypes a, JsonTypes b) {
    return JsonTypes(static_cast<uint8_t>(a.bits_ & b.bits_));
  }
  friend constexpr bool operator==(JsonTypes, JsonTypes) = default;

 private:
  constexpr explicit JsonTypes(uint8_t bits) : bits_(bits) {}

  uint8_t bits_ = 0;
};

}  // namespace sheaf
