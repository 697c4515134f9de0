#include "model/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/status.h"
#include "model/files/shard_file.h"
#include "model/files/weight_files.h"
#include "model/files/weight_index.h"

namespace sheaf {
namespace {

absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }

absl::StatusOr<std::vector<TensorInfo>> ReadHeader(const ShardFile& file) {
  std::vector<uint8_t> header(std::min<uint64_t>(file.size(), 8));
  SHEAF_RETURN_IF_ERROR(file.Read(0, header));
  SHEAF_ASSIGN_OR_RETURN(const uint64_t header_size,
                         SafetensorsHeaderSize(header, file.size(), file.path()));
  header.resize(header_size);
  SHEAF_RETURN_IF_ERROR(file.Read(0, header));
  return ParseSafetensorsHeader(header, file.size(), file.path());
}

absl::StatusOr<std::vector<std::string>> FileNames(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  if (!error) return names;
  return absl::FailedPreconditionError(
      absl::StrFormat("%s: cannot list: %s", directory, error.message()));
}

}  // namespace

struct Checkpoint::Impl {
  std::string directory;
  std::vector<std::unique_ptr<ShardFile>> shards;
  std::vector<std::vector<TensorInfo>> tensors;  // by shard; not changed after Open
  absl::flat_hash_map<absl::string_view, const TensorInfo*> by_name;
  std::string index_path;
  std::vector<AbsentTensor> absent;
  std::vector<std::string> remarks;

  absl::Status AddShard(const std::string& path) {
    SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<ShardFile> file, ShardFile::Open(path));
    SHEAF_ASSIGN_OR_RETURN(std::vector<TensorInfo> found, ReadHeader(*file));
    for (TensorInfo& tensor : found) tensor.shard = static_cast<int>(shards.size());
    shards.push_back(std::move(file));
    tensors.push_back(std::move(found));
    return absl::OkStatus();
  }

  absl::Status BuildNameTable() {
    size_t count = 0;
    for (const auto& list : tensors) count += list.size();
    by_name.reserve(count);
    for (const auto& list : tensors) {
      for (const TensorInfo& tensor : list) {
        const auto [at, inserted] = by_name.emplace(absl::string_view(tensor.name), &tensor);
        if (!inserted) {
          return absl::InvalidArgumentError(absl::StrFormat(
              "tensor %s is in two shards: %s and %s", tensor.name, at->second->file, tensor.file));
        }
      }
    }
    return absl::OkStatus();
  }

  // Shards that exist are opened; what the index names beside them is absent.
  absl::Status OpenIndexed(const WeightIndex& index) {
    index_path = index.path;
    std::vector<int> opened(index.shard_names.size(), -1);  // position in `shards`
    std::error_code error;
    for (size_t i = 0; i < opened.size(); ++i) {
      const std::string path = directory + "/" + index.shard_names[i];
      if (!std::filesystem::exists(path, error)) continue;
      opened[i] = static_cast<int>(shards.size());
      SHEAF_RETURN_IF_ERROR(AddShard(path));
    }
    if (shards.empty() && !opened.empty()) {
      return absl::NotFoundError(absl::StrFormat("%s/%s: missing shard: %s names it", directory,
                                                 index.shard_names.front(), index_path));
    }
    SHEAF_RETURN_IF_ERROR(BuildNameTable());
    for (const auto& [name, number] : index.tensors) {
      const auto at = by_name.find(absl::string_view(name));
      const std::string& shard = index.shard_names[static_cast<size_t>(number)];
      if (at == by_name.end()) {
        absent.push_back({name, shard, opened[static_cast<size_t>(number)] >= 0});
      } else if (at->second->shard != opened[static_cast<size_t>(number)]) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%s: tensor %s: wanted in shard %s, got %s", index_path, name, shard,
                            at->second->file));
      }
    }
    return absl::OkStatus();
  }

  absl::Status OpenFiles(const std::vector<std::string>& names) {
    for (const std::string& name : names) SHEAF_RETURN_IF_ERROR(AddShard(directory + "/" + name));
    return BuildNameTable();
  }

  absl::Status OpenChosen(const WeightFiles& files) {
    if (files.index.empty()) {
      return OpenFiles(files.whole.empty() ? files.numbered
                                           : std::vector<std::string>{files.whole});
    }
    const auto index = ReadWeightIndex(directory + "/" + files.index);
    if (files.whole.empty()) {
      SHEAF_RETURN_IF_ERROR(index.status());
      return OpenIndexed(*index);
    }
    const bool is_shard =
        index.ok() && std::binary_search(index->shard_names.begin(), index->shard_names.end(),
                                         files.whole);
    if (is_shard) return OpenIndexed(*index);
    remarks.push_back(absl::StrFormat("%s/%s: not read: %s is there and holds the weights",
                                      directory, files.index, files.whole));
    return OpenFiles({files.whole});
  }
};

Checkpoint::Checkpoint() : impl_(std::make_unique<Impl>()) {}
Checkpoint::~Checkpoint() = default;

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    return absl::NotFoundError(absl::StrFormat("%s: no such directory", directory));
  }
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint);
  Impl& impl = *checkpoint->impl_;
  impl.directory = directory;
  SHEAF_ASSIGN_OR_RETURN(std::vector<std::string> names, FileNames(directory));
  SHEAF_ASSIGN_OR_RETURN(const WeightFiles files, ChooseWeightFiles(std::move(names), directory));
  SHEAF_RETURN_IF_ERROR(impl.OpenChosen(files));
  return checkpoint;
}

const std::string& Checkpoint::directory() const { return impl_->directory; }

const std::string& Checkpoint::index_path() const { return impl_->index_path; }

const ShardFile& Checkpoint::shard(size_t number) const { return *impl_->shards[number]; }

std::span<const AbsentTensor> Checkpoint::absent_tensors() const { return impl_->absent; }

const std::vector<std::string>& Checkpoint::remarks() const { return impl_->remarks; }

size_t Checkpoint::num_shards() const { return impl_->shards.size(); }

const TensorInfo* Checkpoint::Find(std::string_view name) const {
  const auto at = impl_->by_name.find(AbslView(name));
  return at == impl_->by_name.end() ? nullptr : at->second;
}

std::vector<const TensorInfo*> Checkpoint::tensors() const {
  std::vector<const TensorInfo*> all;
  all.reserve(impl_->by_name.size());
  for (const auto& list : impl_->tensors) {
    for (const TensorInfo& tensor : list) all.push_back(&tensor);
  }
  std::sort(all.begin(), all.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->name < b->name; });
  return all;
}

std::span<const TensorInfo> Checkpoint::shard_tensors(size_t shard) const {
  return impl_->tensors[shard];
}

absl::Status Checkpoint::Read(const TensorInfo& tensor, uint64_t first_byte,
                              std::span<uint8_t> out) const {
  SHEAF_CHECK(first_byte <= tensor.bytes && out.size() <= tensor.bytes - first_byte,
              "reads stay within a tensor whose shape was checked");
  return impl_->shards[tensor.shard]->Read(tensor.offset + first_byte, out);
}

absl::StatusOr<std::vector<uint8_t>> Checkpoint::ReadAll(const TensorInfo& tensor) const {
  std::vector<uint8_t> bytes(tensor.bytes);
  SHEAF_RETURN_IF_ERROR(Read(tensor, 0, bytes));
  return bytes;
}

absl::Status Checkpoint::CheckUnchanged() const {
  for (const auto& shard : impl_->shards) SHEAF_RETURN_IF_ERROR(shard->CheckUnchanged());
  return absl::OkStatus();
}

void Checkpoint::WillNeed(const TensorInfo& tensor, uint64_t first_byte, uint64_t bytes) const {
  impl_->shards[tensor.shard]->WillNeed(tensor.offset + first_byte, bytes);
}

}  // namespace sheaf
