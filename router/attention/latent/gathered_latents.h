#pragma once
// GatheredLatents: the records that rows of a step attend to, from the ranks that keep them
// (kept_slots.h), side by side as one pool. A record that several rows of a sequence read is there
// once.
//
// Numbers    records are copied as they are, and a row's list keeps its order: attention over this
//            pool gives the bytes of attention over a whole cache.
// Memory     the records of as many rows as have max_records together, or of one row; twice, since
//            they are sent first.
// Ownership  pool() and queries point into this, until the next Gather.
// Threads    the step thread; copies over the pool.
// Errors     those of RankGroup; kDataLoss: a rank's part has another size than what it keeps of
//            the records.
// Cost       one gather, of token_bytes a record.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "kernels/attention/latent_attention.h"
#include "kernels/attention/latent_kv.h"
#include "router/attention/attention.h"
#include "router/attention/latent/kept_slots.h"
#include "router/attention/latent/position_choice.h"

namespace sheaf {

class GatheredLatents {
 public:
  // slots: of all ranks, ascending.
  GatheredLatents(RankGroup& group, ThreadPool& pool, std::vector<KeptSlots> slots,
                  size_t max_records);

  // Of rows [first, the return value), at least one, what `choices` says that they read. `kept`:
  // this rank's pool.
  absl::StatusOr<int> Gather(const kernels::LatentPool& kept, std::span<const StepRow> rows,
                             std::span<const PositionChoice> choices, int first);

  const kernels::LatentPool& pool() const { return pool_of_records_; }
  // Where a row that was gathered finds its records: block_table, positions and num_positions; the
  // rest is empty.
  const kernels::LatentQuery& query(int row) const {
    return queries_[static_cast<size_t>(row - first_)];
  }

 private:
  struct Record {
    const int32_t* block_table = nullptr;
    int32_t position = 0;
    int32_t rank = 0;
    size_t place = 0;  // in that rank's part
  };

  // Of a row alone: its records are there in the order of its list.
  static constexpr size_t kInOrder = ~size_t{0};

  // Adds what rows of one sequence read.
  void AddSequence(std::span<const StepRow> rows, std::span<const PositionChoice> choices);
  void AddRecord(const int32_t* block_table, int32_t position);
  absl::Status PutTogether(const kernels::LatentPool& kept);

  RankGroup& group_;
  ThreadPool& threads_;
  const std::vector<KeptSlots> slots_;
  const size_t max_records_;
  int first_ = 0;

  std::vector<Record> records_;
  std::vector<size_t> counts_;          // by rank
  std::vector<int32_t> index_of_;       // by position of a sequence: its record's, or -1
  std::vector<int32_t> positions_;      // what queries_ point to: places among a sequence's records
  std::vector<size_t> first_position_;  // of a query in positions_, or kInOrder
  std::vector<size_t> first_record_;    // of a query's sequence in records_
  std::vector<kernels::LatentQuery> queries_;
  std::vector<int32_t> table_;  // 0, 1, ..: a sequence's block table begins at its first record
  std::vector<uint8_t> own_;
  std::vector<uint8_t> bytes_;
  kernels::LatentPool pool_of_records_;
};

}  // namespace sheaf
