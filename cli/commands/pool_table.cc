#include "cli/commands/pool_table.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/one_line.h"

namespace sheaf {

const char* NameOf(v1::WorkerStatus::State state) {
  switch (state) {
    case v1::WorkerStatus::LOADING:
      return "loading";
    case v1::WorkerStatus::READY:
      return "ready";
    case v1::WorkerStatus::DRAINING:
      return "draining";
    case v1::WorkerStatus::SPARE:
      return "spare";
    case v1::WorkerStatus::QUARANTINED:
      return "quarantined";
    default:
      return "?";
  }
}

namespace {

std::string Size(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e9) return absl::StrFormat("%.1f GB", value / 1e9);
  return absl::StrFormat("%.1f MB", value / 1e6);
}

using Row = std::vector<std::string>;

// Columns as wide as their longest cell; the last one ends where its text does.
std::string Table(const std::vector<Row>& rows) {
  std::vector<size_t> width(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(width[i] + 2 - row[i].size(), ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace

std::string PoolTable(const v1::PoolStatus& status) {
  std::string text =
      absl::StrFormat("%s: %s\n", OneLine(status.model().name()), OneLine(status.text()));
  int64_t experts = 0;
  for (const int64_t n : status.coverage()) experts += n;
  absl::StrAppend(&text, absl::StrFormat("%d experts, %g holders wanted; %d routers", experts,
                                         status.replicas(), status.routers()));
  if (status.coverage_size() == 4) {
    absl::StrAppend(
        &text, absl::StrFormat("; held by none %d, one %d, two %d, more %d", status.coverage(0),
                               status.coverage(1), status.coverage(2), status.coverage(3)));
  }
  if (status.moving_bytes() > 0) {
    absl::StrAppend(&text, "; ", Size(status.moving_bytes()), " still to load");
  }
  text += "\n";
  if (status.workers_size() > 0) {
    std::vector<Row> rows = {{"id", "state", "process", "holds", "wanted", "memory", "to load",
                              "load", "links", "silent", "note"}};
    for (const v1::WorkerStatus& worker : status.workers()) {
      std::string memory = Size(worker.resident_bytes());
      if (worker.memory_bytes() > 0) memory += " of " + Size(worker.memory_bytes());
      rows.push_back({absl::StrCat(worker.worker_id()), NameOf(worker.state()),
                      absl::StrFormat("%d on %s", worker.pid(), OneLine(worker.host())),
                      absl::StrCat(worker.held_experts()), absl::StrCat(worker.wanted_experts()),
                      memory, worker.hold_left_bytes() > 0 ? Size(worker.hold_left_bytes()) : "-",
                      absl::StrFormat("%.1f %%", 100 * worker.load_share()),
                      absl::StrCat(worker.live_links()),
                      absl::StrFormat("%d ms", worker.silent_ms()), OneLine(worker.reason())});
    }
    text += Table(rows);
  }
  for (const v1::LostWorkerStatus& lost : status.lost()) {
    absl::StrAppend(&text,
                    absl::StrFormat("lost %.1f s ago: worker %d (%d on %s): %s\n",
                                    static_cast<double>(lost.lost_ms_ago()) / 1e3, lost.worker_id(),
                                    lost.pid(), OneLine(lost.host()), OneLine(lost.reason())));
  }
  return text;
}

}  // namespace sheaf
