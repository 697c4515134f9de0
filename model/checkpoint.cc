#include "model/checkpoint.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr uint64_t kMaxIndexBytes = 512 << 20;
// The kernel maps up to 64 KiB around a page that is touched; unmapping covers that much.
constexpr uintptr_t kFaultAroundBytes = 64 << 10;

absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }

absl::Status FileError(const std::string& path, std::string_view action) {
  const std::string message =
      absl::StrFormat("%s: cannot %s: %s", path, action, std::strerror(errno));
  return errno == ENOENT || errno == ENOTDIR ? absl::NotFoundError(message)
                                             : absl::FailedPreconditionError(message);
}

// An open file, read-only.
class File {
 public:
  static absl::StatusOr<File> Open(const std::string& path) {
    File file;
    file.descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file.descriptor_ < 0) return FileError(path, "open");
    struct stat info;
    if (::fstat(file.descriptor_, &info) != 0) return FileError(path, "stat");
    if (!S_ISREG(info.st_mode)) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: not a regular file", path));
    }
    file.size_ = static_cast<uint64_t>(info.st_size);
    return file;
  }
  File(File&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}
  File& operator=(File&&) = delete;
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  int descriptor() const { return descriptor_; }
  uint64_t size() const { return size_; }

  absl::Status Read(const std::string& path, uint64_t count, char* out) const {
    for (uint64_t done = 0; done < count;) {
      const ssize_t got = ::pread(descriptor_, out + done, count - done, static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return FileError(path, "read");
      if (got == 0)
        return absl::DataLossError(absl::StrFormat("%s: shrank while it was read", path));
      done += static_cast<uint64_t>(got);
    }
    return absl::OkStatus();
  }

 private:
  File() = default;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

struct Shard {
  std::string path;
  const uint8_t* data = nullptr;
  uint64_t size = 0;

  Shard() = default;
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;
  ~Shard() {
    if (data != nullptr) ::munmap(const_cast<uint8_t*>(data), size);
  }
};

// Maps the shard and parses its header. `path` must be set.
absl::StatusOr<std::vector<TensorInfo>> OpenShard(Shard& shard) {
  SHEAF_ASSIGN_OR_RETURN(const File file, File::Open(shard.path));
  std::vector<char> header(std::min<uint64_t>(file.size(), 8));
  SHEAF_RETURN_IF_ERROR(file.Read(shard.path, header.size(), header.data()));
  const auto bytes = [&] {
    return std::span(reinterpret_cast<const uint8_t*>(header.data()), header.size());
  };
  SHEAF_ASSIGN_OR_RETURN(const uint64_t header_size,
                         SafetensorsHeaderSize(bytes(), file.size(), shard.path));
  header.resize(header_size);
  SHEAF_RETURN_IF_ERROR(file.Read(shard.path, header_size, header.data()));
  SHEAF_ASSIGN_OR_RETURN(std::vector<TensorInfo> tensors,
                         ParseSafetensorsHeader(bytes(), file.size(), shard.path));
  void* const data = ::mmap(nullptr, file.size(), PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (data == MAP_FAILED) return FileError(shard.path, "map");
  shard.data = static_cast<const uint8_t*>(data);
  shard.size = file.size();
  return tensors;
}

struct Index {
  std::vector<std::string> shard_names;              // sorted
  std::vector<std::pair<std::string, int>> tensors;  // name and its shard
};

absl::StatusOr<Index> ReadIndex(const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(const File file, File::Open(path));
  if (file.size() > kMaxIndexBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes, wanted at most %d", path, file.size(), kMaxIndexBytes));
  }
  simdjson::padded_string json(file.size());
  SHEAF_RETURN_IF_ERROR(file.Read(path, file.size(), json.data()));
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
  Index index;
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

}  // namespace

struct Checkpoint::Impl {
  std::string directory;
  std::vector<std::unique_ptr<Shard>> shards;
  std::vector<std::vector<TensorInfo>> tensors;  // by shard; not changed after Open
  absl::flat_hash_map<absl::string_view, const TensorInfo*> by_name;

  absl::Status AddShard(const std::string& path) {
    auto& shard = shards.emplace_back(std::make_unique<Shard>());
    shard->path = path;
    SHEAF_ASSIGN_OR_RETURN(std::vector<TensorInfo> found, OpenShard(*shard));
    for (TensorInfo& tensor : found) tensor.shard = static_cast<int>(shards.size()) - 1;
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

  absl::Status CheckIndex(const Index& index, const std::string& index_path) const {
    for (const auto& [name, shard] : index.tensors) {
      const auto at = by_name.find(absl::string_view(name));
      if (at == by_name.end() || at->second->shard != shard) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "%s: tensor %s: wanted in shard %s, got %s", index_path, name, index.shard_names[shard],
            at == by_name.end() ? std::string("no shard that has it")
                                : std::string(at->second->file)));
      }
    }
    return absl::OkStatus();
  }

  // The page-aligned mapped range that holds the tensor, widened by `margin`.
  std::pair<void*, size_t> Pages(const TensorInfo& tensor, uintptr_t margin) const {
    static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const Shard& shard = *shards[tensor.shard];
    const auto base = reinterpret_cast<uintptr_t>(shard.data);
    uintptr_t begin = base + tensor.offset, end = begin + tensor.bytes;
    begin = std::max(base, begin - std::min(margin, begin)) & ~(page - 1);
    end = std::min(base + shard.size, end + margin);
    return {reinterpret_cast<void*>(begin), end - begin};
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
  const std::string single = directory + "/model.safetensors";
  const std::string index_path = directory + "/model.safetensors.index.json";
  if (std::filesystem::exists(single, error)) {
    SHEAF_RETURN_IF_ERROR(impl.AddShard(single));
    SHEAF_RETURN_IF_ERROR(impl.BuildNameTable());
    return checkpoint;
  }
  if (!std::filesystem::exists(index_path, error)) {
    return absl::NotFoundError(absl::StrFormat(
        "%s: neither model.safetensors nor model.safetensors.index.json", directory));
  }
  SHEAF_ASSIGN_OR_RETURN(const Index index, ReadIndex(index_path));
  for (const std::string& name : index.shard_names) {
    const std::string path = directory + "/" + name;
    if (!std::filesystem::exists(path, error)) {
      return absl::NotFoundError(
          absl::StrFormat("%s: missing shard: %s names it", path, index_path));
    }
    SHEAF_RETURN_IF_ERROR(impl.AddShard(path));
  }
  SHEAF_RETURN_IF_ERROR(impl.BuildNameTable());
  SHEAF_RETURN_IF_ERROR(impl.CheckIndex(index, index_path));
  return checkpoint;
}

const std::string& Checkpoint::directory() const { return impl_->directory; }

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

std::span<const uint8_t> Checkpoint::Bytes(const TensorInfo& tensor) const {
  return {impl_->shards[tensor.shard]->data + tensor.offset, tensor.bytes};
}

void Checkpoint::WillNeed(const TensorInfo& tensor) const {
  if (tensor.bytes == 0) return;
  const auto [begin, length] = impl_->Pages(tensor, 0);
  ::madvise(begin, length, MADV_WILLNEED);  // advice: a failure costs speed alone
}

void Checkpoint::DropMapping(const TensorInfo& tensor) const {
  if (tensor.bytes == 0) return;
  const auto [begin, length] = impl_->Pages(tensor, kFaultAroundBytes);
  ::madvise(begin, length,
            MADV_DONTNEED);  // a shared file mapping: what is still read faults in again
}

}  // namespace sheaf
