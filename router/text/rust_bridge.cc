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
  return code == SHEAF_TEXT_INVALID_ARGUMENT ? absl::InvalidArgumentError(message)
                                             : absl::InternalError(message);
}

}  // namespace sheaf
