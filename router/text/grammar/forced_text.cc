#include "router/text/grammar/forced_text.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

struct Estimate {
  size_t longest_bytes = 1;
  double counts = 1;
};

void Walk(const SchemaJson& value, Estimate& estimate) {
  if (value.is_array()) {
    for (const SchemaJson& item : value) Walk(item, estimate);
    return;
  }
  if (!value.is_object()) return;
  for (const auto& [key, member] : value.items()) {
    if (key == "const") {
      estimate.longest_bytes = std::max(estimate.longest_bytes, member.dump().size());
    } else if (key == "enum" && member.is_array()) {
      for (const SchemaJson& item : member) {
        estimate.longest_bytes = std::max(estimate.longest_bytes, item.dump().size());
      }
    } else if (key == "minItems" && member.is_number()) {
      estimate.counts *= std::max(1.0, member.get<double>());
    } else {
      if (key == "properties" && member.is_object()) {
        for (const auto& [name, property] : member.items()) {
          estimate.longest_bytes = std::max(estimate.longest_bytes, name.size());
        }
      }
      Walk(member, estimate);
    }
  }
}

}  // namespace

absl::Status CheckForcedText(const SchemaJson& schema, std::string_view where) {
  Estimate estimate;
  Walk(schema, estimate);
  if (static_cast<double>(estimate.longest_bytes) * estimate.counts <= kMaxForcedBytes) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s$: its minItems multiply to %.0f, which with a fixed text of %d bytes is more than the "
      "limit of %d",
      where, estimate.counts, estimate.longest_bytes, kMaxForcedBytes));
}

}  // namespace sheaf
