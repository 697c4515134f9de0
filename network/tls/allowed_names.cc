#include "network/tls/allowed_names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr PeerRole kRoles[] = {PeerRole::kWorker, PeerRole::kRouter, PeerRole::kCoordinator,
                               PeerRole::kAdmin};

bool Same(const std::string& allowed, const std::string& name) {
  // A URI is compared as it is; a DNS name has no colon.
  return absl::StrContains(allowed, ':') ? allowed == name
                                         : absl::EqualsIgnoreCase(allowed, name);
}

}  // namespace

const char* NameOf(PeerRole role) {
  switch (role) {
    case PeerRole::kWorker:
      return "worker";
    case PeerRole::kRouter:
      return "router";
    case PeerRole::kCoordinator:
      return "coordinator";
    case PeerRole::kAdmin:
      return "admin";
  }
  return "";
}

absl::StatusOr<AllowedNames> AllowedNames::Parse(const std::vector<std::string>& entries) {
  AllowedNames allowed;
  for (const std::string& text : entries) {
    Entry entry;
    const size_t equals = text.find('=');
    if (equals == std::string::npos) {
      entry.every_role = true;
      entry.name = text;
    } else {
      const std::string role = text.substr(0, equals);
      const auto* const found = std::find_if(std::begin(kRoles), std::end(kRoles),
                                             [&](PeerRole one) { return role == NameOf(one); });
      if (found == std::end(kRoles)) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "wanted worker=, router=, coordinator= or admin= before a name, got \"%s\"", text));
      }
      entry.role = *found;
      entry.name = text.substr(equals + 1);
    }
    if (entry.name.empty() || absl::StrContains(entry.name, '*') ||
        absl::StrContains(entry.name, '=')) {
      return absl::InvalidArgumentError(
          absl::StrFormat("wanted a SPIFFE id or a DNS name (no pattern), got \"%s\"", text));
    }
    allowed.entries_.push_back(std::move(entry));
  }
  return allowed;
}

bool AllowedNames::HasAny(const std::vector<std::string>& names) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return Same(entry.name, name); });
  });
}

bool AllowedNames::May(PeerRole role, const std::vector<std::string>& names) const {
  if (role == PeerRole::kCoordinator &&
      std::none_of(entries_.begin(), entries_.end(), [](const Entry& entry) {
        return !entry.every_role && entry.role == PeerRole::kCoordinator;
      })) {
    role = PeerRole::kRouter;
  }
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return (entry.every_role || entry.role == role) &&
           std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return Same(entry.name, name); });
  });
}

}  // namespace sheaf
