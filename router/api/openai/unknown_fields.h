#pragma once
// UnknownFields: what clients send that this server does not know, counted by name and said in the
// log: the first time, and at every tenfold of it. Such fields are accepted, as other servers do;
// an operator should still be able to see that somebody's wish has no effect.
//
// Threads  any. Bounds: 256 names, later ones are counted together.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace sheaf {

class UnknownFields {
 public:
  void Count(const std::string& path, const std::vector<std::string>& names);

 private:
  absl::Mutex mutex_;
  std::map<std::string, uint64_t> counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf
