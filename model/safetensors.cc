#include "model/safetensors.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

struct DtypeRow {
  TensorDtype dtype;
  std::string_view name;
  int bits;
};

// In the order of the enumeration.
constexpr std::array<DtypeRow, 22> kDtypes = {{
    {TensorDtype::kBool, "BOOL", 8},
    {TensorDtype::kF4, "F4", 4},
    {TensorDtype::kF6E2M3, "F6_E2M3", 6},
    {TensorDtype::kF6E3M2, "F6_E3M2", 6},
    {TensorDtype::kU8, "U8", 8},
    {TensorDtype::kI8, "I8", 8},
    {TensorDtype::kF8E4M3, "F8_E4M3", 8},
    {TensorDtype::kF8E5M2, "F8_E5M2", 8},
    {TensorDtype::kF8E8M0, "F8_E8M0", 8},
    {TensorDtype::kF8E4M3Fnuz, "F8_E4M3FNUZ", 8},
    {TensorDtype::kF8E5M2Fnuz, "F8_E5M2FNUZ", 8},
    {TensorDtype::kI16, "I16", 16},
    {TensorDtype::kU16, "U16", 16},
    {TensorDtype::kF16, "F16", 16},
    {TensorDtype::kBF16, "BF16", 16},
    {TensorDtype::kI32, "I32", 32},
    {TensorDtype::kU32, "U32", 32},
    {TensorDtype::kF32, "F32", 32},
    {TensorDtype::kI64, "I64", 64},
    {TensorDtype::kU64, "U64", 64},
    {TensorDtype::kF64, "F64", 64},
    {TensorDtype::kC64, "C64", 64},
}};

constexpr uint64_t kLengthBytes = 8;
constexpr size_t kMaxDimensions = 8;

std::optional<TensorDtype> ParseDtype(std::string_view name) {
  for (const DtypeRow& row : kDtypes) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

// The simdjson values below are of documents that outlive them.
absl::Status ReadTensor(std::string_view source, std::string_view name,
                        simdjson::dom::element value, uint64_t header_size, uint64_t data_bytes,
                        TensorInfo& tensor) {
  const auto error = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: tensor %s: %s", source, name, what));
  };
  std::string_view dtype_name;
  if (value["dtype"].get(dtype_name) != simdjson::SUCCESS)
    return error("no \"dtype\" string in the header");
  const std::optional<TensorDtype> dtype = ParseDtype(dtype_name);
  if (!dtype) return error(absl::StrFormat("unknown dtype \"%s\"", dtype_name.substr(0, 32)));

  simdjson::dom::array shape;
  if (value["shape"].get(shape) != simdjson::SUCCESS)
    return error("no \"shape\" array in the header");
  if (shape.size() > kMaxDimensions) {
    return error(absl::StrFormat("shape has %d dimensions, wanted at most %d", shape.size(),
                                 kMaxDimensions));
  }
  uint64_t bits = static_cast<uint64_t>(DtypeBits(*dtype));
  for (simdjson::dom::element dimension : shape) {
    uint64_t size = 0;
    if (dimension.get(size) != simdjson::SUCCESS || size > INT64_MAX) {
      return error("shape has a dimension that is not a size");
    }
    if (__builtin_mul_overflow(bits, size, &bits)) return error("the shape's size overflows");
    tensor.shape.push_back(static_cast<int64_t>(size));
  }

  if (bits % 8 != 0) {
    return error(absl::StrFormat("%s %s does not fill whole bytes", dtype_name,
                                 ShapeString(tensor.shape)));
  }
  const uint64_t bytes = bits / 8;

  simdjson::dom::array offsets;
  if (value["data_offsets"].get(offsets) != simdjson::SUCCESS || offsets.size() != 2) {
    return error("no \"data_offsets\" pair in the header");
  }
  uint64_t begin = 0, end = 0;
  if (offsets.at(0).get(begin) != simdjson::SUCCESS ||
      offsets.at(1).get(end) != simdjson::SUCCESS || begin > end) {
    return error("data_offsets are not an ascending pair of sizes");
  }
  if (end > data_bytes) {
    return absl::DataLossError(
        absl::StrFormat("%s: tensor %s: bytes %d..%d lie outside the file: wanted at most %d data "
                        "bytes (truncated download?)",
                        source, name, begin, end, data_bytes));
  }
  if (end - begin != bytes) {
    return error(absl::StrFormat("%s %s wants %d bytes, data_offsets give %d", dtype_name,
                                 ShapeString(tensor.shape), bytes, end - begin));
  }
  tensor.name = std::string(name);
  tensor.dtype = *dtype;
  tensor.file = source;
  tensor.offset = header_size + begin;
  tensor.bytes = bytes;
  return absl::OkStatus();
}

// The ranges must tile the data area: an overlap or a gap means that a writer or a copy went wrong.
absl::Status CheckTiling(const std::vector<TensorInfo>& tensors, uint64_t header_size,
                         uint64_t file_size, std::string_view source) {
  std::vector<const TensorInfo*> by_offset;
  by_offset.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) by_offset.push_back(&tensor);
  const auto before = [](const TensorInfo* a, const TensorInfo* b) {
    return a->offset != b->offset ? a->offset < b->offset : a->bytes < b->bytes;
  };
  if (!std::is_sorted(by_offset.begin(), by_offset.end(), before)) {
    std::sort(by_offset.begin(), by_offset.end(), before);
  }
  uint64_t end = header_size;
  const TensorInfo* previous = nullptr;
  for (const TensorInfo* tensor : by_offset) {
    if (tensor->offset < end) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: tensors %s and %s overlap: the second starts at byte %d, the first ends at %d",
          source, previous->name, tensor->name, tensor->offset, end));
    }
    if (tensor->offset > end) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: tensor %s starts at byte %d, wanted %d: a gap that belongs to no tensor", source,
          tensor->name, tensor->offset, end));
    }
    end += tensor->bytes;
    previous = tensor;
  }
  if (end != file_size) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: %d bytes after the last tensor belong to none", source, file_size - end));
  }
  return absl::OkStatus();
}

}  // namespace

int DtypeBits(TensorDtype dtype) { return kDtypes[static_cast<size_t>(dtype)].bits; }

size_t DtypeBytes(TensorDtype dtype) { return static_cast<size_t>(DtypeBits(dtype) + 7) / 8; }

std::string_view DtypeName(TensorDtype dtype) { return kDtypes[static_cast<size_t>(dtype)].name; }

std::string ShapeString(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  return out + "]";
}

absl::StatusOr<uint64_t> SafetensorsHeaderSize(std::span<const uint8_t> prefix, uint64_t file_size,
                                               std::string_view source) {
  if (file_size < kLengthBytes || prefix.size() < kLengthBytes) {
    return absl::DataLossError(
        absl::StrFormat("%s: %d bytes, too short for a safetensors file", source, file_size));
  }
  uint64_t length = 0;
  std::memcpy(&length, prefix.data(), kLengthBytes);  // little-endian, as every machine we run on
  if (length > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: header length %d, wanted at most %d: not a safetensors file, or a damaged one", source,
        length, kMaxSafetensorsHeaderBytes));
  }
  if (length > file_size - kLengthBytes) {
    return absl::DataLossError(
        absl::StrFormat("%s: header length %d, but the file has only %d bytes after it", source,
                        length, file_size - kLengthBytes));
  }
  return kLengthBytes + length;
}

absl::StatusOr<std::vector<TensorInfo>> ParseSafetensorsHeader(std::span<const uint8_t> bytes,
                                                               uint64_t file_size,
                                                               std::string_view source) {
  SHEAF_ASSIGN_OR_RETURN(const uint64_t header_size,
                         SafetensorsHeaderSize(bytes, file_size, source));
  if (bytes.size() < header_size) {
    return absl::DataLossError(
        absl::StrFormat("%s: %d bytes given of a header of %d", source, bytes.size(), header_size));
  }
  const simdjson::padded_string json(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                                     header_size - kLengthBytes);
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (const simdjson::error_code code = parser.parse(json).get(root); code != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the header is not JSON: %s", source, simdjson::error_message(code)));
  }
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the header is not a JSON object", source));
  }
  std::vector<TensorInfo> tensors;
  tensors.reserve(object.size());
  std::unordered_set<std::string_view> names;
  names.reserve(object.size());
  for (const simdjson::dom::key_value_pair field : object) {
    if (field.key == "__metadata__") continue;
    if (!names.insert(field.key).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s is listed twice", source, field.key));
    }
    SHEAF_RETURN_IF_ERROR(ReadTensor(source, field.key, field.value, header_size,
                                     file_size - header_size, tensors.emplace_back()));
  }
  SHEAF_RETURN_IF_ERROR(CheckTiling(tensors, header_size, file_size, source));
  return tensors;
}

}  // namespace sheaf
