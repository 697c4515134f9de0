#pragma once
// FairnessKeyOf: whose share a request is counted on (GenerationRequest::fairness_key).
//
//   x-fairness-key (header, metadata)   that key, for gateways that know their users
//   Authorization: Bearer KEY           a hash of KEY, other in every process; KEY goes nowhere
//   neither                             empty: all such requests share one share
// The two kinds are never equal to each other.
// Threads: pure. Cost: O(bytes).

#include <cstddef>
#include <string>
#include <string_view>

namespace sheaf {

// Before the header's own bytes.
inline constexpr size_t kFairnessPrefixBytes = 4;  // "key:"

// Header values as they came; empty: not sent.
std::string FairnessKeyOf(std::string_view fairness_key, std::string_view authorization);

}  // namespace sheaf
