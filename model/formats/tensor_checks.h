#pragma once
// Checks of a tensor's dtype and shape against what a format wants, with messages that name all of
// it.
//
// Threads    pure.
// Errors     kNotFound (absent), kInvalidArgument.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint.h"

namespace sheaf {

// "FILE: tensor NAME: wanted W, got G".
absl::Status TensorError(const TensorInfo& tensor, std::string_view wanted, std::string_view got);

absl::StatusOr<const TensorInfo*> RequireTensor(const Checkpoint& checkpoint,
                                                const std::string& name);

absl::Status CheckDtype(const TensorInfo& tensor, std::initializer_list<TensorDtype> wanted);
absl::Status CheckShape(const TensorInfo& tensor, const std::vector<int64_t>& wanted);

inline constexpr std::initializer_list<TensorDtype> kFloatDtypes = {
    TensorDtype::kBF16, TensorDtype::kF16, TensorDtype::kF32};
inline constexpr std::initializer_list<TensorDtype> kWordDtypes = {TensorDtype::kI32,
                                                                   TensorDtype::kU32};

}  // namespace sheaf
