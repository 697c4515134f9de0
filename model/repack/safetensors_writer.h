#pragma once
// Writes one safetensors file: the header first, then each tensor's bytes in the header's order.
//
// Ownership  the pieces' bytes are borrowed for the call. Threads: one.
// Errors     kResourceExhausted (full disk) or kInternal, naming the file and the system's words.

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
};

absl::Status WriteSafetensors(const std::string& path, std::span<const SafetensorsPiece> pieces);

// A whole file at once; the same errors.
absl::Status WriteWholeFile(const std::string& path, std::span<const uint8_t> bytes);

}  // namespace sheaf
