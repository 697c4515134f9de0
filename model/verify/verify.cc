#include "model/verify/verify.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "model/verify/sha256.h"
#include "model/verify/tensor_roles.h"

namespace sheaf {
namespace {

// So many equal words are 4 KiB: a block of a file system that was never written.
constexpr uint64_t kSuspiciousRunWords = 1024;
constexpr uint64_t kWordsToJudge = 64;

struct FileTask {
  std::string name;
  std::string path;
  uint64_t bytes = 0;
  std::vector<const TensorInfo*> tensors;  // by offset; empty for files without any
};

class OpenFile {
 public:
  explicit OpenFile(const std::string& path)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  absl::Status Read(const std::string& path, uint64_t offset, std::span<uint8_t> out) const {
    for (size_t done = 0; done < out.size();) {
      const ssize_t got = ::pread(descriptor_, out.data() + done, out.size() - done,
                                  static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return absl::UnavailableError(
            absl::StrFormat("%s: cannot read: %s", path, std::strerror(errno)));
      }
      if (got == 0) {
        return absl::DataLossError(
            absl::StrFormat("%s: ends at byte %d, before it should", path, offset + done));
      }
      done += static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

 private:
  const int descriptor_;
};

std::string Place(const TensorInfo& tensor, uint64_t element) {
  std::vector<uint64_t> indices(tensor.shape.size());
  uint64_t rest = element;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    const auto size = static_cast<uint64_t>(std::max<int64_t>(tensor.shape[i], 1));
    indices[i] = rest % size;
    rest /= size;
  }
  return absl::StrFormat("[%s]", absl::StrJoin(indices, ", "));
}

std::string Named(const TensorInfo& tensor, const std::string& what) {
  return absl::StrFormat("%s: tensor %s: %s", tensor.file, tensor.name, what);
}

// The report that several threads write.
class Gathering {
 public:
  explicit Gathering(VerifyReport& report) : report_(report) {}

  void Fault(const TensorInfo& tensor, const std::string& what) {
    Fault(std::string(tensor.file), tensor.offset, Named(tensor, what));
  }
  void Fault(const std::string& file, uint64_t offset, std::string sentence) {
    std::lock_guard lock(mutex_);
    faults_.emplace_back(file, offset, std::move(sentence));
  }
  void Remark(const TensorInfo& tensor, const std::string& what) {
    std::lock_guard lock(mutex_);
    remarks_.emplace_back(std::string(tensor.file), tensor.offset, Named(tensor, what));
  }
  void Floats(ModelPart part, const char* role, const TensorInfo& tensor, const FloatFacts& facts) {
    std::lock_guard lock(mutex_);
    ValueRange& range = values_[{part, role, std::string(DtypeName(tensor.dtype))}];
    ++range.tensors;
    range.floats.Add(facts);
  }
  template <typename Change>
  void Codes(ModelPart part, const Change& change) {
    std::lock_guard lock(mutex_);
    change(codes_[part]);
  }
  void GroupIndex(uint64_t GroupIndexKinds::* kind) {
    std::lock_guard lock(mutex_);
    ++(report_.group_indices.*kind);
  }

  // The order of the files and their tensors, whichever thread was faster.
  void Finish() {
    std::sort(faults_.begin(), faults_.end());
    for (auto& fault : faults_) report_.AddFault(std::move(std::get<2>(fault)));
    std::sort(remarks_.begin(), remarks_.end());
    for (auto& remark : remarks_) {
      if (report_.remarks.size() < kMaxFaults)
        report_.remarks.push_back(std::move(std::get<2>(remark)));
    }
    for (auto& [key, range] : values_) {
      std::tie(range.part, range.role, range.dtype) = key;
      report_.values.push_back(range);
    }
    for (auto& [part, range] : codes_) {
      range.part = part;
      report_.codes.push_back(range);
    }
  }

 private:
  using Said = std::tuple<std::string, uint64_t, std::string>;  // file, offset, sentence
  VerifyReport& report_;
  std::mutex mutex_;
  std::vector<Said> faults_, remarks_;
  std::map<std::tuple<ModelPart, std::string, std::string>, ValueRange> values_;
  std::map<ModelPart, CodeRange> codes_;
};

// One tensor, from its first piece to its last.
class TensorScan {
 public:
  TensorScan(const TensorInfo& tensor, const TensorUse& use, Gathering& gathering)
      : tensor_(tensor),
        use_(use),
        gathering_(gathering),
        floats_(tensor.dtype),
        groups_(use.plan != nullptr ? use.plan->groups : 0) {}

  void Add(std::span<const uint8_t> piece) {
    if (IsFloat(tensor_.dtype)) floats_.Add(piece);
    if (IsWords()) codes_.Add(piece);
    if (use_.role == TensorRole::kGroupIndex) groups_.Add(piece);
    if (use_.role == TensorRole::kShape) shape_.insert(shape_.end(), piece.begin(), piece.end());
  }

  void Finish() {
    if (IsFloat(tensor_.dtype)) FinishFloats();
    if (use_.role == TensorRole::kCodes && IsWords()) FinishCodes();
    if (use_.role == TensorRole::kZeros && IsWords()) FinishZeros();
    if (use_.role == TensorRole::kGroupIndex) FinishGroups();
    if (use_.role == TensorRole::kShape) FinishShape();
  }

 private:
  bool IsWords() const {
    return (use_.role == TensorRole::kCodes || use_.role == TensorRole::kZeros) &&
           (tensor_.dtype == TensorDtype::kI32 || tensor_.dtype == TensorDtype::kU32);
  }

  const char* RoleName() const {
    switch (use_.role) {
      case TensorRole::kScales:
        return "scales";
      case TensorRole::kBias:
        return "biases";
      case TensorRole::kUnused:
        return "unused";
      default:
        return "weights";
    }
  }

  void FinishFloats() {
    const FloatFacts& facts = floats_.facts();
    gathering_.Floats(use_.part, RoleName(), tensor_, facts);
    if (facts.not_finite > 0) {
      const std::string what =
          absl::StrFormat("%d of %d values are NaN or Inf, the first at %s", facts.not_finite,
                          facts.count, Place(tensor_, *facts.first_not_finite));
      use_.role == TensorRole::kUnused ? gathering_.Remark(tensor_, what)
                                       : gathering_.Fault(tensor_, what);
    }
    if (use_.role == TensorRole::kScales && facts.count > 0 && facts.zeros == facts.count) {
      gathering_.Remark(tensor_, "every scale is zero");
    }
  }

  void FinishCodes() {
    const CodeFacts& facts = codes_.facts();
    gathering_.Codes(use_.part, [&](CodeRange& range) {
      ++range.tensors;
      for (size_t code = 0; use_.plan->bits == 4 && code < facts.counts.size(); ++code)
        range.counts[code] += facts.counts[code];
      if (use_.plan->zeros == nullptr) ++range.without_zeros;
    });
    if (use_.plan->g_idx == nullptr) gathering_.GroupIndex(&GroupIndexKinds::absent);
    const bool long_run = facts.run_length >= kSuspiciousRunWords ||
                          (facts.all_words_equal && facts.words >= kWordsToJudge);
    if (!long_run) return;
    const std::string what = absl::StrFormat(
        "%d of %d words are 0x%08X, from word %d on", facts.run_length, facts.words,
        facts.run_word, facts.run_begin);
    // Weights of zero are what somebody may have wanted.
    const bool zero_weights = facts.run_word == (use_.plan->bits == 4 ? 0x88888888 : 0x80808080);
    zero_weights ? gathering_.Remark(tensor_, what) : gathering_.Fault(tensor_, what);
  }

  void FinishZeros() {
    const std::optional<int> only = OnlyZero();
    const int symmetric = use_.plan->symmetric_zero();
    gathering_.Codes(use_.part, [&](CodeRange& range) {
      if (only) {
        ++range.one_zero[*only];
      } else {
        ++range.several_zeros;
      }
    });
    if (!only) return;
    const int usual = use_.plan->zero_points == ZeroPoints::kMinusOne ? symmetric - 1 : symmetric;
    if (*only != usual && (*only == symmetric || *only == symmetric - 1)) {
      gathering_.Remark(
          tensor_,
          absl::StrFormat("%d throughout, where its layout stores %d for symmetric weights", *only,
                          usual));
    }
  }

  // The zero point that all rows and groups have in the file, if they have one.
  std::optional<int> OnlyZero() const {
    const CodeFacts& facts = codes_.facts();
    if (use_.plan->bits == 4) return facts.OnlyCode();
    const uint32_t byte = facts.first_word & 0xFF;
    if (!facts.all_words_equal || facts.first_word != byte * 0x01010101) return std::nullopt;
    return static_cast<int>(byte);
  }

  void FinishGroups() {
    const GroupIndexFacts& facts = groups_.facts();
    if (facts.first_bad) {
      gathering_.Fault(tensor_,
                       absl::StrFormat("wanted groups in 0..%d, got %d at [%d]",
                                       use_.plan->groups - 1, facts.first_bad->second,
                                       facts.first_bad->first));
      return;
    }
    gathering_.GroupIndex(facts.all_zero && use_.plan->groups > 1 ? &GroupIndexKinds::zeros
                          : facts.in_order                        ? &GroupIndexKinds::in_order
                                                                  : &GroupIndexKinds::permuted);
  }

  void FinishShape() {
    std::vector<int64_t> stored;
    const size_t size = DtypeBytes(tensor_.dtype);
    for (size_t at = 0; at + size <= shape_.size(); at += size) {
      int64_t value = 0;
      std::memcpy(&value, shape_.data() + at, std::min<size_t>(size, sizeof(value)));
      stored.push_back(value);
    }
    const std::vector<int64_t> wanted = {use_.plan->n, use_.plan->k};
    if (stored.size() == 2 && stored != wanted) {
      gathering_.Fault(tensor_, absl::StrFormat("wanted the values %s, got %s", ShapeString(wanted),
                                                ShapeString(stored)));
    }
  }

  const TensorInfo& tensor_;
  const TensorUse use_;
  Gathering& gathering_;
  FloatScan floats_;
  CodeScan codes_;
  GroupIndexScan groups_;
  std::vector<uint8_t> shape_;
};

class FileScan {
 public:
  FileScan(const FileTask& task, const TensorRoles& roles, Gathering& gathering,
           std::span<uint8_t> buffer)
      : task_(task), roles_(roles), gathering_(gathering), buffer_(buffer), file_(task.path) {}

  // The digest.
  absl::StatusOr<std::string> Run() {
    for (const TensorInfo* tensor : task_.tensors) {
      SHEAF_RETURN_IF_ERROR(Range(tensor->offset, nullptr));
      TensorScan scan(*tensor, roles_.UseOf(*tensor), gathering_);
      SHEAF_RETURN_IF_ERROR(Range(tensor->offset + tensor->bytes, &scan));
      scan.Finish();
    }
    SHEAF_RETURN_IF_ERROR(Range(task_.bytes, nullptr));
    return sha256_.Hex();
  }

 private:
  // From where the last one ended to `end`.
  absl::Status Range(uint64_t end, TensorScan* scan) {
    while (at_ < end) {
      const std::span<uint8_t> piece = buffer_.first(std::min<uint64_t>(end - at_, buffer_.size()));
      SHEAF_RETURN_IF_ERROR(file_.Read(task_.path, at_, piece));
      sha256_.Update(piece);
      if (scan != nullptr) scan->Add(piece);
      at_ += piece.size();
    }
    return absl::OkStatus();
  }

  const FileTask& task_;
  const TensorRoles& roles_;
  Gathering& gathering_;
  const std::span<uint8_t> buffer_;
  const OpenFile file_;
  Sha256 sha256_;
  uint64_t at_ = 0;
};

// Every regular file but the list of digests, the largest first.
std::vector<FileTask> FilesOf(const Checkpoint& checkpoint) {
  std::map<std::string, std::vector<const TensorInfo*>> tensors;
  for (size_t shard = 0; shard < checkpoint.num_shards(); ++shard) {
    for (const TensorInfo& tensor : checkpoint.shard_tensors(shard)) {
      tensors[std::filesystem::path(std::string(tensor.file)).filename().string()].push_back(
          &tensor);
    }
  }
  std::vector<FileTask> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint.directory(), error)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file(error) || name == kSha256SumsName) continue;
    FileTask task{name, checkpoint.directory() + "/" + name, entry.file_size(error), {}};
    if (const auto at = tensors.find(name); at != tensors.end()) {
      task.tensors = std::move(at->second);
      std::sort(task.tensors.begin(), task.tensors.end(),
                [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
    }
    files.push_back(std::move(task));
  }
  std::sort(files.begin(), files.end(), [](const FileTask& a, const FileTask& b) {
    return std::tie(b.bytes, a.name) < std::tie(a.bytes, b.name);
  });
  return files;
}

void CompareDigests(VerifyReport& report) {
  auto sums = ReadSha256Sums(report.directory);
  if (absl::IsNotFound(sums.status())) return;
  report.has_sums = true;
  if (!sums.ok()) return report.AddFault(std::string(sums.status().message()));
  for (FileDigest& file : report.files) {
    const auto listed = sums->find(file.name);
    if (listed == sums->end()) continue;
    file.listed = listed->second == file.sha256 ? FileDigest::Listed::kSame
                                                : FileDigest::Listed::kOther;
    if (file.listed == FileDigest::Listed::kOther && !file.sha256.empty()) {
      report.AddFault(absl::StrFormat("%s/%s: wanted SHA-256 %s (%s), got %s", report.directory,
                                      file.name, listed->second, kSha256SumsName, file.sha256));
    }
    sums->erase(listed);
  }
  for (const auto& [name, digest] : *sums) {
    report.AddFault(absl::StrFormat("%s/%s: missing file: %s lists it", report.directory, name,
                                    kSha256SumsName));
  }
}

}  // namespace

void VerifyReport::AddFault(std::string sentence) {
  ++num_faults;
  if (faults.size() < kMaxFaults) faults.push_back(std::move(sentence));
}

VerifyReport VerifyCheckpoint(const Checkpoint& checkpoint, const ModelConfig* config,
                              const std::string& refusal, ThreadPool& pool) {
  const auto started = std::chrono::steady_clock::now();
  VerifyReport report;
  report.directory = checkpoint.directory();
  if (!refusal.empty()) report.AddFault(refusal);
  const TensorRoles roles(checkpoint, config);
  const std::vector<FileTask> files = FilesOf(checkpoint);
  report.files.resize(files.size());
  std::vector<std::vector<uint64_t>> buffers(static_cast<size_t>(pool.num_threads()));
  Gathering gathering(report);
  pool.ParallelFor(static_cast<int64_t>(files.size()), [&](int64_t item, int thread) {
    const FileTask& task = files[static_cast<size_t>(item)];
    std::vector<uint64_t>& buffer = buffers[static_cast<size_t>(thread)];
    buffer.resize(kVerifyPieceBytes / sizeof(uint64_t));
    auto digest = FileScan(task, roles, gathering,
                           {reinterpret_cast<uint8_t*>(buffer.data()), kVerifyPieceBytes})
                      .Run();
    FileDigest& file = report.files[static_cast<size_t>(item)];
    file.name = task.name;
    file.bytes = task.bytes;
    if (digest.ok()) {
      file.sha256 = *std::move(digest);
    } else {
      gathering.Fault(task.path, 0, std::string(digest.status().message()));
    }
  });
  gathering.Finish();
  std::sort(report.files.begin(), report.files.end(),
            [](const FileDigest& a, const FileDigest& b) { return a.name < b.name; });
  Sha256 whole;
  for (const FileDigest& file : report.files) {
    const std::string line = file.sha256 + "  " + file.name + "\n";
    whole.Update({reinterpret_cast<const uint8_t*>(line.data()), line.size()});
    report.bytes += file.bytes;
  }
  report.sha256 = whole.Hex();
  CompareDigests(report);
  report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return report;
}

}  // namespace sheaf
