#include "model/formats/tensor_checks.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace sheaf {

absl::Status TensorError(const TensorInfo& tensor, std::string_view wanted, std::string_view got) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: tensor %s: wanted %s, got %s", tensor.file, tensor.name, wanted, got));
}

absl::StatusOr<const TensorInfo*> RequireTensor(const Checkpoint& checkpoint,
                                                const std::string& name) {
  const TensorInfo* const tensor = checkpoint.Find(name);
  if (tensor == nullptr) {
    return absl::NotFoundError(
        absl::StrFormat("%s: missing tensor %s", checkpoint.directory(), name));
  }
  return tensor;
}

absl::Status CheckDtype(const TensorInfo& tensor, std::initializer_list<TensorDtype> wanted) {
  if (std::find(wanted.begin(), wanted.end(), tensor.dtype) != wanted.end())
    return absl::OkStatus();
  std::string names;
  for (const TensorDtype dtype : wanted) {
    if (!names.empty()) names += " or ";
    names += DtypeName(dtype);
  }
  return TensorError(tensor, "dtype " + names, DtypeName(tensor.dtype));
}

absl::Status CheckShape(const TensorInfo& tensor, const std::vector<int64_t>& wanted) {
  if (tensor.shape == wanted) return absl::OkStatus();
  return TensorError(tensor, "shape " + ShapeString(wanted), ShapeString(tensor.shape));
}

}  // namespace sheaf
