#include "router/text/grammar/regex_text.h"

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "router/text/rust_bridge.h"

namespace sheaf {
namespace {

// A class like \p{L} is five bytes here and some kilobytes parsed.
constexpr size_t kMaxBytes = size_t{16} << 10;
constexpr size_t kMaxWrittenOutBytes = size_t{64} << 10;

absl::StatusOr<std::string> WholeMatch(std::string_view regex, bool search,
                                       std::string_view where) {
  if (regex.size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes, more than the limit of %d", where, regex.size(), kMaxBytes));
  }
  // llguidance reads a group of this name as look-ahead.
  if (regex.find("<stop>") != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: a group named \"stop\" is not supported", where));
  }
  SheafBuffer whole{};
  SheafBuffer error{};
  const SheafTextCode code = sheaf_regex_whole_match(ToSheafText(regex), search, &whole, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, where);
  return TakeString(whole);
}

}  // namespace

absl::StatusOr<std::string> CheckedRegex(std::string_view regex, std::string_view where) {
  SHEAF_RETURN_IF_ERROR(WholeMatch(regex, /*search=*/false, where).status());
  return std::string(regex);
}

absl::Status CheckPattern(std::string_view pattern, std::string_view where) {
  return WholeMatch(pattern, /*search=*/true, where).status();
}

absl::StatusOr<std::string> PatternForWholeText(std::string_view pattern, std::string_view where) {
  SHEAF_ASSIGN_OR_RETURN(std::string whole, WholeMatch(pattern, /*search=*/true, where));
  if (whole.size() > kMaxWrittenOutBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: with its classes written out it has %d bytes, more than the limit of %d", where,
        whole.size(), kMaxWrittenOutBytes));
  }
  return whole;
}

}  // namespace sheaf
