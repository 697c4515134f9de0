#include "model/files/weight_index.h"

#include <simdjson.h>

#include <map>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/files/shard_file.h"

namespace sheaf {
namespace {

constexpr uint64_t kMaxIndexBytes = 512 << 20;

}  // namespace

absl::StatusOr<WeightIndex> ReadWeightIndex(const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
  if (file->size() > kMaxIndexBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes, wanted at most %d", path, file->size(), kMaxIndexBytes));
  }
  simdjson::padded_string json(file->size());
  SHEAF_RETURN_IF_ERROR(
      file->Read(0, {reinterpret_cast<uint8_t*>(json.data()), static_cast<size_t>(file->size())}));
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (const simdjson::error_code code = parser.parse(json).get(root); code != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: not JSON: %s", path, simdjson::error_message(code)));
  }
  simdjson::dom::object map;
  if (root["weight_map"].get(map) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: no \"weight_map\" object", path));
  }
  std::map<std::string_view, int> shard_of_name;
  for (const simdjson::dom::key_value_pair field : map) {
    std::string_view shard;
    if (field.value.get(shard) != simdjson::SUCCESS || shard.empty() || shard == "." ||
        shard == ".." || shard.find('/') != std::string_view::npos ||
        shard.find('\0') != std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: tensor %s: its shard is not the name of a file in the same directory", path,
          field.key));
    }
    shard_of_name.emplace(shard, 0);
  }
  WeightIndex index;
  index.path = path;
  for (auto& [name, number] : shard_of_name) {
    number = static_cast<int>(index.shard_names.size());
    index.shard_names.emplace_back(name);
  }
  index.tensors.reserve(map.size());
  for (const simdjson::dom::key_value_pair field : map) {
    const std::string_view shard = std::string_view(field.value);
    index.tensors.emplace_back(field.key, shard_of_name.find(shard)->second);
  }
  return index;
}

}  // namespace sheaf
