#include "cli/process/ready_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

std::string LockPath(const std::string& path) { return path + ".lock"; }
std::string PartialPath(const std::string& path) { return path + ".part"; }

absl::Status CannotWrite(const std::string& path) {
  return absl::InternalError(
      absl::StrFormat("--ready-file: cannot write %s: %s", path, std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReadyFile>> ReadyFile::Claim(const std::string& path) {
  const std::string lock_path = LockPath(path);
  for (;;) {
    UniqueFd lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!lock.valid()) return CannotWrite(path);
    if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) return CannotWrite(lock_path);
      return absl::FailedPreconditionError(
          absl::StrFormat("--ready-file: %s belongs to a server that is running", path));
    }
    // The one before may have removed the file between our open and our lock.
    struct stat held = {}, named = {};
    if (fstat(lock.get(), &held) != 0 || stat(lock_path.c_str(), &named) != 0 ||
        held.st_ino != named.st_ino || held.st_dev != named.st_dev) {
      continue;
    }
    unlink(path.c_str());
    return std::unique_ptr<ReadyFile>(new ReadyFile(path, std::move(lock)));
  }
}

ReadyFile::~ReadyFile() {
  unlink(PartialPath(path_).c_str());
  unlink(path_.c_str());
  unlink(LockPath(path_).c_str());  // still locked: nobody else has claimed it
}

absl::Status ReadyFile::Write(const ReadyInfo& info) {
  nlohmann::ordered_json json = {{"http", info.http},
                                 {"grpc", info.grpc},
                                 {"cluster", info.cluster},
                                 {"router_pid", info.router_pid},
                                 {"workers", nlohmann::ordered_json::array()}};
  if (info.coordinator_pid != 0) {
    json = {{"cluster", info.cluster}, {"pid", info.coordinator_pid}};
  }
  for (const ReadyInfo::Child& worker : info.workers) {
    json["workers"].push_back({{"id", worker.id}, {"pid", worker.pid}});
  }
  for (const ReadyInfo::Child& rank : info.attention_ranks) {
    json["attention_ranks"].push_back({{"rank", rank.id}, {"pid", rank.pid}});
  }
  const std::string partial = PartialPath(path_);
  errno = 0;
  std::ofstream file(partial, std::ios::trunc);
  file << json.dump() << "\n";
  file.close();
  if (!file || std::rename(partial.c_str(), path_.c_str()) != 0) return CannotWrite(path_);
  return absl::OkStatus();
}

}  // namespace sheaf
