#pragma once
// ModuleRegex: one of the regular expressions that quantization configs match module names with, in
// Python's spelling (PCRE2's, which is the same for what such configs write, look-around included).
//
// Threads    const methods from any thread.
// Errors     Compile: kInvalidArgument with the reason for what cannot be read or is larger than
//            kMaxExpressionBytes, or than 64 KiB once its counted repeats are written out.
// Cost       a match that takes more than kMaxMatchSteps or kMaxMatchMemoryBytes is given up, and
//            is none.

#include <cstddef>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"

namespace sheaf {

class ModuleRegex {
 public:
  static constexpr size_t kMaxExpressionBytes = 4096;
  static constexpr int kMaxMatchSteps = 10'000;
  static constexpr int kMaxMatchMemoryBytes = 1 << 20;

  static absl::StatusOr<ModuleRegex> Compile(std::string_view expression);

  bool Matches(std::string_view text) const;   // from the start of the text on: Python's re.match
  bool Searches(std::string_view text) const;  // anywhere in it: re.search

 private:
  explicit ModuleRegex(std::shared_ptr<const void> code) : code_(std::move(code)) {}
  bool Run(std::string_view text, bool from_start) const;

  std::shared_ptr<const void> code_;  // pcre2_code, constant
};

}  // namespace sheaf
