#pragma once
// From the C ABI of the Rust library (rust/sheaf_text.h) to strings and absl::Status. For this
// folder's .cc files only: no public header includes it.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "router/text/rust/sheaf_text.h"

namespace sheaf {

inline SheafText ToSheafText(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStringView(SheafText text) { return {text.data, text.size}; }

// Copies the text out and frees the buffer.
std::string TakeString(SheafBuffer buffer);

// The Status of a failed call: "`what`: message". Frees `error`. `code` is not SHEAF_TEXT_OK.
absl::Status TakeError(SheafTextCode code, SheafBuffer error, std::string_view what);

}  // namespace sheaf
