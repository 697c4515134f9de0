#include "router/attention/latent/gathered_latents.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {

GatheredLatents::GatheredLatents(RankGroup& group, ThreadPool& pool, std::vector<KeptSlots> slots,
                                 size_t max_records)
    : group_(group),
      threads_(pool),
      slots_(std::move(slots)),
      max_records_(max_records),
      counts_(slots_.size()) {}

absl::StatusOr<int> GatheredLatents::Gather(const kernels::LatentPool& kept,
                                            std::span<const StepRow> rows,
                                            std::span<const PositionChoice> choices, int first) {
  first_ = first;
  records_.clear();
  positions_.clear();
  first_position_.clear();
  first_record_.clear();
  queries_.clear();
  std::fill(counts_.begin(), counts_.end(), 0);
  const int num_rows = static_cast<int>(rows.size());
  int row = first;
  while (row < num_rows && records_.size() < max_records_) {
    // Rows of a sequence are neighbours; all that they read is less than each one's list.
    const size_t room = max_records_ - records_.size();
    size_t listed = 0;
    int end = row;
    while (end < num_rows && rows[size_t(end)].sequence == rows[size_t(row)].sequence) {
      const size_t seen = static_cast<size_t>(rows[size_t(end)].position) + 1;
      listed = std::min(listed + static_cast<size_t>(choices[size_t(end)].count), seen);
      if (listed > room && end > first) break;
      ++end;
    }
    if (end == row) break;
    AddSequence(rows.subspan(size_t(row), size_t(end - row)),
                choices.subspan(size_t(row), size_t(end - row)));
    row = end;
  }
  SHEAF_RETURN_IF_ERROR(PutTogether(kept));
  for (size_t i = 0; i < queries_.size(); ++i) {
    queries_[i].block_table = table_.data() + first_record_[i];
    if (first_position_[i] != kInOrder)
      queries_[i].positions = positions_.data() + first_position_[i];
  }
  return row;
}

void GatheredLatents::AddSequence(std::span<const StepRow> rows,
                                  std::span<const PositionChoice> choices) {
  const size_t first_record = records_.size();
  if (choices.size() == 1) {
    for (int i = 0; i < choices[0].count; ++i) AddRecord(rows[0].block_table, choices[0].at(i));
    first_record_.push_back(first_record);
    first_position_.push_back(kInOrder);
    queries_.emplace_back().num_positions = choices[0].count;
    return;
  }
  index_of_.assign(static_cast<size_t>(rows.back().position) + 1, -1);
  for (const PositionChoice& choice : choices) {
    for (int i = 0; i < choice.count; ++i) index_of_[size_t(choice.at(i))] = 0;
  }
  for (size_t position = 0; position < index_of_.size(); ++position) {
    if (index_of_[position] < 0) continue;
    index_of_[position] = static_cast<int32_t>(records_.size() - first_record);
    AddRecord(rows.front().block_table, static_cast<int32_t>(position));
  }
  for (const PositionChoice& choice : choices) {
    first_record_.push_back(first_record);
    first_position_.push_back(positions_.size());
    for (int i = 0; i < choice.count; ++i) positions_.push_back(index_of_[size_t(choice.at(i))]);
    queries_.emplace_back().num_positions = choice.count;
  }
}

void GatheredLatents::AddRecord(const int32_t* block_table, int32_t position) {
  size_t rank = 0;
  while (!slots_[rank].Has(position)) ++rank;
  records_.push_back({block_table, position, static_cast<int32_t>(rank), counts_[rank]++});
}

absl::Status GatheredLatents::PutTogether(const kernels::LatentPool& kept) {
  const size_t bytes = kept.token_bytes();
  const auto me = static_cast<size_t>(group_.rank());
  const KeptSlots& slots = slots_[me];
  const auto num_records = static_cast<int64_t>(records_.size());
  const ItemCost cost = CostOfElements(static_cast<int64_t>(bytes / sizeof(float)));
  if (own_.size() < counts_[me] * bytes) own_.resize(counts_[me] * bytes);
  threads_.ParallelFor(num_records, cost, [&](int64_t i, int) {
    const Record& record = records_[size_t(i)];
    if (size_t(record.rank) != me) return;
    const uint8_t* const from = kept.token(record.block_table[record.position / slots.block_size],
                                           record.position % slots.block_size - slots.first);
    std::memcpy(own_.data() + record.place * bytes, from, bytes);
  });
  SHEAF_ASSIGN_OR_RETURN(const RankGroup::Parts parts,
                         group_.Gather({own_.data(), counts_[me] * bytes}));
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    if (parts[rank].size() == counts_[rank] * bytes) continue;
    return absl::DataLossError(
        absl::StrFormat("attention rank %d: wanted %d latents of %d bytes, got %d bytes", rank,
                        counts_[rank], bytes, parts[rank].size()));
  }
  if (bytes_.size() < records_.size() * bytes) bytes_.resize(records_.size() * bytes);
  threads_.ParallelFor(num_records, cost, [&](int64_t i, int) {
    const Record& record = records_[size_t(i)];
    std::memcpy(bytes_.data() + size_t(i) * bytes,
                parts[size_t(record.rank)].data() + record.place * bytes, bytes);
  });
  if (table_.size() < records_.size()) {
    table_.resize(records_.size());
    std::iota(table_.begin(), table_.end(), 0);
  }
  pool_of_records_ = kept;
  pool_of_records_.block_size = 1;
  pool_of_records_.data = bytes_.data();
  return absl::OkStatus();
}

}  // namespace sheaf
