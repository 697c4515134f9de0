#include "router/api/request/fairness_key.h"

#include "absl/hash/hash.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sheaf {

std::string FairnessKeyOf(std::string_view fairness_key, std::string_view authorization) {
  constexpr absl::string_view kBearer = "Bearer ";
  const absl::string_view wanted =
      absl::StripAsciiWhitespace({fairness_key.data(), fairness_key.size()});
  if (!wanted.empty()) return absl::StrCat("key:", wanted);
  absl::string_view api_key =
      absl::StripAsciiWhitespace({authorization.data(), authorization.size()});
  if (!absl::StartsWithIgnoreCase(api_key, kBearer)) return {};
  api_key = absl::StripAsciiWhitespace(api_key.substr(kBearer.size()));
  if (api_key.empty()) return {};
  // Abseil's hash has a seed of its own in each process; two of them, as one has 64 bits.
  return absl::StrCat(
      "api:", absl::Hex(absl::HashOf(api_key), absl::kZeroPad16),
      absl::Hex(absl::HashOf(api_key, absl::string_view("second")), absl::kZeroPad16));
}

}  // namespace sheaf
