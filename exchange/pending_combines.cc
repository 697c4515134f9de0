#include "exchange/pending_combines.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sheaf {

absl::Status PendingCombines::Add(const Exchange& exchange) {
  const FrameHeader& header = exchange.dispatch;
  if (header.epoch != epoch_) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(header), ": the link's epoch is ", epoch_.value()));
  }
  const uint64_t wanted = uint64_t{header.pairs} * header.hidden * sizeof(float);
  if (exchange.combine.size() != wanted) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(header), ": combine buffer: wanted ",
                                                   wanted, " bytes, got ",
                                                   exchange.combine.size()));
  }
  entries_.push_back({exchange.worker, KeyOf(header), exchange.combine});
  ++open_;
  return absl::OkStatus();
}

PendingCombines::Entry* PendingCombines::Match(const FrameHeader& header) {
  const ExchangeKey key = KeyOf(header);
  for (Entry& entry : entries_) {
    if (entry.landing || entry.worker.value() != header.source || entry.key != key) continue;
    if (header.kind == FrameKind::kCombine && header.payload_bytes != entry.combine.size()) break;
    entry.landing = true;
    return &entry;
  }
  ++dropped_frames_;
  return nullptr;
}

void PendingCombines::Complete(Entry& entry) {
  if (entry.done) return;
  entry.done = true;
  --open_;
}

void PendingCombines::Clear() {
  entries_.clear();
  open_ = 0;
}

std::vector<WorkerId> PendingCombines::Missing() const {
  std::vector<WorkerId> workers;
  for (const Entry& entry : entries_) {
    if (!entry.done) workers.push_back(entry.worker);
  }
  std::sort(workers.begin(), workers.end());
  workers.erase(std::unique(workers.begin(), workers.end()), workers.end());
  return workers;
}

LinkFault PendingCombines::Silent(Duration waited) const {
  LinkFault fault;
  fault.suspects = Missing();
  fault.certain = false;
  int32_t layer = 0;
  for (const Entry& entry : entries_) {
    if (!entry.done) layer = entry.key.layer;
  }
  fault.status = absl::DeadlineExceededError(
      absl::StrFormat("%s did not answer layer %d within %d ms", NameWorkers(fault.suspects), layer,
                      std::chrono::duration_cast<std::chrono::milliseconds>(waited).count()));
  return fault;
}

std::string NameWorkers(std::span<const WorkerId> workers) {
  std::string text = workers.size() == 1 ? "worker " : "workers ";
  for (size_t i = 0; i < workers.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", workers[i].value());
  }
  return text;
}

}  // namespace sheaf
