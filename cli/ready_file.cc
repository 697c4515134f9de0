#include "cli/ready_file.h"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace sheaf {

absl::Status WriteReadyFile(const std::string& path, const ReadyInfo& info) {
  nlohmann::ordered_json json = {{"http", info.http},
                                 {"grpc", info.grpc},
                                 {"router_pid", info.router_pid},
                                 {"workers", nlohmann::ordered_json::array()}};
  for (const ReadyInfo::Worker& worker : info.workers) {
    json["workers"].push_back({{"id", worker.id}, {"pid", worker.pid}});
  }
  const std::string partial = path + ".part";
  std::ofstream file(partial, std::ios::trunc);
  file << json.dump() << "\n";
  file.close();
  if (!file || std::rename(partial.c_str(), path.c_str()) != 0) {
    return absl::InternalError(absl::StrFormat("--ready-file: cannot write %s", path));
  }
  return absl::OkStatus();
}

}  // namespace sheaf
