#pragma once
// The matrix that logits come from, and the form that it is kept in (--lm-head-dtype).
//
//   auto   as the checkpoint has it; a head that is the embedding is one matrix with it
//   int8   plain floats become 8-bit integers when they are loaded (model/int8_rows.h); an
//          embedding that is also the head stays what it was, and the head is a matrix beside it.
//          A head of 8 bits or fewer stays as it is.
//
// Threads    pure. Errors: those of planning a Linear (model/linear_plan.h).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/linear_plan.h"

namespace sheaf {

enum class LmHeadDtype : uint8_t { kAuto, kInt8 };

std::string_view LmHeadDtypeName(LmHeadDtype dtype);  // "auto", "int8"
std::optional<LmHeadDtype> ParseLmHeadDtype(std::string_view name);

// Of lm_head, or of the embedding where that is the head (HeadIsEmbedding).
absl::StatusOr<LinearPlan> PlanLmHead(const Checkpoint& checkpoint, const ModelConfig& config,
                                      LmHeadDtype dtype);

// Of all its rows in memory.
uint64_t LmHeadBytes(const LinearPlan& plan);

// What an operator should know of a dtype that changes nothing; "" where it does.
std::string LmHeadRemark(const LinearPlan& plan, LmHeadDtype dtype);

}  // namespace sheaf
