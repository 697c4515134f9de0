#include "model/repack/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

constexpr size_t kHeaderAlignment = 8;

absl::Status FileError(const std::string& path) {
  const absl::StatusCode code = errno == ENOSPC || errno == EDQUOT
                                    ? absl::StatusCode::kResourceExhausted
                                    : absl::StatusCode::kInternal;
  return absl::Status(code, absl::StrFormat("%s: %s", path, std::strerror(errno)));
}

class OutputFile {
 public:
  explicit OutputFile(const std::string& path)
      : path_(path), fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {}

  absl::Status Write(std::span<const uint8_t> bytes) {
    if (!fd_.valid()) return FileError(path_);
    while (!bytes.empty()) {
      const ssize_t written = write(fd_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return FileError(path_);
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  // Not before: some file systems tell of a full disk only now.
  absl::Status Finish() {
    if (!fd_.valid() || fsync(fd_.get()) != 0) return FileError(path_);
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  UniqueFd fd_;
};

absl::Status Copy(const SafetensorsPiece& piece, OutputFile& file) {
  std::vector<uint8_t> bytes;
  for (uint64_t done = 0; done < piece.size; done += bytes.size()) {
    bytes.resize(std::min<uint64_t>(kCopyBytes, piece.size - done));
    SHEAF_RETURN_IF_ERROR(piece.read(done, bytes));
    SHEAF_RETURN_IF_ERROR(file.Write(bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, std::span<const SafetensorsPiece> pieces) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t offset = 0;
  for (const SafetensorsPiece& piece : pieces) {
    header[piece.name] = {{"dtype", std::string(DtypeName(piece.dtype))},
                          {"shape", piece.shape},
                          {"data_offsets", {offset, offset + piece.size_bytes()}}};
    offset += piece.size_bytes();
  }
  std::string text = header.dump();
  text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  const uint64_t length = text.size();

  OutputFile file(path);
  SHEAF_RETURN_IF_ERROR(file.Write({reinterpret_cast<const uint8_t*>(&length), sizeof(length)}));
  SHEAF_RETURN_IF_ERROR(file.Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  for (const SafetensorsPiece& piece : pieces) {
    SHEAF_RETURN_IF_ERROR(piece.read ? Copy(piece, file) : file.Write(piece.bytes));
  }
  return file.Finish();
}

absl::Status WriteWholeFile(const std::string& path, std::span<const uint8_t> bytes) {
  OutputFile file(path);
  SHEAF_RETURN_IF_ERROR(file.Write(bytes));
  return file.Finish();
}

}  // namespace sheaf
