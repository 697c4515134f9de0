#pragma once
// The --ready-file: {"http": "127.0.0.1:8000", "grpc": "127.0.0.1:50051", "cluster": "",
// "router_pid": 1, "workers": [{"id": 0, "pid": 2}]}, or of a coordinator {"cluster": "..", "pid":
// 3}, written once the server answers requests, rewritten when a worker is replaced and removed
// when the server stops.
//
// The file is replaced as a whole (write beside it, rename), so a reader never sees half of it. A
// lock on PATH.lock, which the kernel ends with its process, keeps a second server from the same
// path; what a server that was killed left behind is removed by the next.
//
// Threads    one.
// Errors     Claim: kFailedPrecondition when a running server has the path; kInternal when nothing
//            can be written there. Write: kInternal. All name the path.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sheaf {

struct ReadyInfo {
  std::string http{};
  std::string grpc{};
  std::string cluster{};  // host:port of the listener that workers join at; empty = none
  int router_pid = 0;
  int coordinator_pid = 0;  // of `sheaf coordinator`; 0 = none
  struct Child {
    int id = 0;
    int pid = 0;
  };
  std::vector<Child> workers{};
  std::vector<Child> attention_ranks{};  // by their rank
};

class ReadyFile {
 public:
  static absl::StatusOr<std::unique_ptr<ReadyFile>> Claim(const std::string& path);
  ~ReadyFile();  // removes it
  ReadyFile(const ReadyFile&) = delete;
  ReadyFile& operator=(const ReadyFile&) = delete;

  // A failed write leaves the file as it was.
  absl::Status Write(const ReadyInfo& info);

 private:
  ReadyFile(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  const std::string path_;
  const UniqueFd lock_;
};

}  // namespace sheaf
