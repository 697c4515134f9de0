#pragma once
// Writes one safetensors file: the header first, then each tensor's bytes in the header's order.
//
// Ownership  the pieces' bytes are borrowed for the call. Threads: one.
// Errors     kResourceExhausted (full disk) or kInternal, naming the file and the system's words;
//            what a piece's reader returns.
// Memory     kCopyBytes at a time of a piece that is read while it is written.

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "model/safetensors.h"

namespace sheaf {

struct SafetensorsPiece {
  std::string name;
  TensorDtype dtype = TensorDtype::kU8;
  std::vector<int64_t> shape;
  std::span<const uint8_t> bytes;
  // Instead of bytes: `size` of them are fetched from here, in order.
  std::function<absl::Status(uint64_t first, std::span<uint8_t> out)> read;
  uint64_t size = 0;

  uint64_t size_bytes() const { return read ? size : bytes.size(); }
};

inline constexpr size_t kCopyBytes = size_t{4} << 20;

absl::Status WriteSafetensors(const std::string& path, std::span<const SafetensorsPiece> pieces);

// A whole file at once; the same errors.
absl::Status WriteWholeFile(const std::string& path, std::span<const uint8_t> bytes);

}  // namespace sheaf
