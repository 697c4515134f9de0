#pragma once
// What a Linear's stored zero points mean: decided by the values themselves, since configs are
// often silent or wrong, and by what the config says only where the values leave it open.
//
//   stored values             config says symmetric   not said    asymmetric
//   GPTQ: 7 or 8 everywhere   8                       8           8; but as the layout has it where
//                                                                 the config names one (gptq_v2 and
//                                                                 7 is 7, gptq and 8 is 9)
//   others: 8 everywhere      8                       8           8
//   anything else             refused                 as stored   as stored
//
// With 8 bits 128 stands for 8, 127 for 7. GPTQ zero points that are 0 everywhere under a config
// that says symmetric were never set, and mean 8. "As stored" is the plan's convention:
// docs/weight_formats.md.
//
// Threads    pure.
// Errors     kInvalidArgument naming file, tensor, what the config says, and the value.

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "model/linear_plan.h"

namespace sheaf {

// `bytes`: the plan's part of plan.zeros, all of it. Empty where plan.zeros is null.
absl::StatusOr<ZeroPoints> DecideZeroPoints(const LinearPlan& plan, std::span<const uint8_t> bytes);

}  // namespace sheaf
