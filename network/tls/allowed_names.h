#pragma once
// AllowedNames: which names of certificates may do what between our own processes.
//
// Entries    "NAME" for every role, or "ROLE=NAME" with worker, router, coordinator or admin; a
//            name may have several. A name: a SPIFFE id (compared as it is) or a DNS name (without
//            regard to case). No patterns.
// Coordinator  whom we dial for one: names of that role; where the list has none of it, the
//              routers',
//            which have the coordinator inside.
// Errors     Parse: kInvalidArgument with the entry.
// Threads    immutable once made.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace sheaf {

enum class PeerRole { kWorker, kRouter, kCoordinator, kAdmin };

const char* NameOf(PeerRole role);  // as the list has it

class AllowedNames {
 public:
  AllowedNames() = default;  // of nobody
  static absl::StatusOr<AllowedNames> Parse(const std::vector<std::string>& entries);

  bool empty() const { return entries_.empty(); }
  // One of `names`, as a certificate has them, is on the list: in whichever role; in this one.
  bool HasAny(const std::vector<std::string>& names) const;
  bool May(PeerRole role, const std::vector<std::string>& names) const;

 private:
  struct Entry {
    bool every_role = false;
    PeerRole role = PeerRole::kWorker;
    std::string name;
  };
  std::vector<Entry> entries_;
};

}  // namespace sheaf
