#include "router/api/openai/unknown_fields.h"

#include "absl/strings/str_format.h"
#include "router/api/request/json/json_fields.h"
#include "spdlog/spdlog.h"

namespace sheaf {
namespace {

constexpr size_t kMaxNames = 256;

bool IsPowerOfTen(uint64_t n) {
  while (n % 10 == 0) n /= 10;
  return n == 1;
}

}  // namespace

void UnknownFields::Count(const std::string& path, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    // A client chooses the name: as JSON it cannot break the log's lines.
    std::string key = absl::StrFormat("%s: %s", path, JsonText(name));
    uint64_t count = 0;
    {
      absl::MutexLock lock(&mutex_);
      if (counts_.size() >= kMaxNames && !counts_.contains(key)) key = path + ": further fields";
      count = ++counts_[key];
    }
    if (IsPowerOfTen(count)) spdlog::info("{} unknown and ignored, {} requests so far", key, count);
  }
}

}  // namespace sheaf
