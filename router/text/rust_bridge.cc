#include "router/text/rust_bridge.h"

#include "absl/strings/str_format.h"

namespace sheaf {

std::string TakeString(SheafBuffer buffer) {
  std::string text(buffer.data, buffer.size);
  sheaf_text_free_buffer(buffer);
  return text;
}

absl::Status TakeError(SheafTextCode code, SheafBuffer error, std::string_view what) {
  const std::string message = absl::StrFormat("%s: %s", what, TakeString(error));
  switch (code) {
    case SHEAF_TEXT_INVALID_ARGUMENT:
      return absl::InvalidArgumentError(message);
    case SHEAF_TEXT_RESOURCE_EXHAUSTED:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace sheaf
