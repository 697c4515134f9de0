#include "kernels/attention/latent_attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/round_up.h"
#include "kernels/attention/block_waves.h"
#include "kernels/attention/latent_attention_rows.h"
#include "kernels/simd/aligned_floats.h"
#include "kernels/simd/reference_switch.h"

namespace sheaf::kernels {
namespace {

using internal::kQueryRows;
using internal::LatentRows;

// The largest group of heads keeps its queries and sums beside a block of keys in a core's L2
// cache. Each group converts every record, so that groups below the second limit are made only of
// lists too short to be split.
constexpr int kMostHeads = 64;
constexpr int kFewestHeadsOfSplit = 16;

struct Shape {
  const LatentPool& kv;
  int num_heads;
  float scale;
  size_t key_dim;
  size_t key_width;    // key_dim in whole lanes
  size_t value_width;  // latent_dim in whole lanes
};

// Some heads of one query.
struct HeadGroup {
  const LatentQuery* query;
  int first_head;
  int num_heads;

  size_t rows() const { return static_cast<size_t>(RoundUp(num_heads, kQueryRows)); }
  int num_blocks() const { return (query->num_positions + kReductionBlock - 1) / kReductionBlock; }
};

// Queries and sums of some rows.
class RowState {
 public:
  void Start(const Shape& shape, const HeadGroup& group) {
    ResizeSums(group.rows(), shape);
    std::fill(m_.begin(), m_.end(), -std::numeric_limits<float>::infinity());
    std::fill(l_.begin(), l_.end(), 0.0f);
    o_.Assign(group.rows() * shape.value_width, 0.0f);
    q_.Assign(group.rows() * shape.key_width, 0.0f);
    const float* q = group.query->q + group.first_head * shape.key_dim;
    for (int head = 0; head < group.num_heads; ++head) {
      std::copy_n(q + head * shape.key_dim, shape.key_dim, q_.data() + head * shape.key_width);
    }
  }

  void ResizeSums(size_t rows, const Shape& shape) {
    m_.resize(rows);
    l_.resize(rows);
    o_.Resize(rows * shape.value_width);
  }

  // These sums, of another state's queries.
  LatentRows Rows(const Shape& shape, const RowState& queries) {
    return {.rows = queries.m_.size(),
            .key_width = shape.key_width,
            .value_width = shape.value_width,
            .scale = shape.scale,
            .q = queries.q_.data(),
            .m = m_.data(),
            .l = l_.data(),
            .o = o_.data()};
  }

  void Finish(const Shape& shape, const HeadGroup& group, int first, int last) const {
    const ptrdiff_t latent_dim = shape.kv.latent_dim;
    for (int head = first; head < last; ++head) {
      internal::FinishRow(o_.data() + head * shape.value_width, l_[head],
                          static_cast<size_t>(latent_dim),
                          group.query->out + (group.first_head + head) * latent_dim);
    }
  }

  // Merges four rows of a block's sums, from `row` on.
  void Merge(const Shape& shape, const RowState& block, size_t row) {
    internal::MergeRows(block.m_.data() + row, block.l_.data() + row,
                        block.o_.data() + row * shape.value_width, shape.value_width,
                        m_.data() + row, l_.data() + row, o_.data() + row * shape.value_width);
  }

 private:
  AlignedFloats q_;
  std::vector<float> m_, l_;
  AlignedFloats o_;
};

// The keys of one reduction block as floats, and room for their scores.
struct BlockScratch {
  void Load(const Shape& shape, const HeadGroup& group, int block) {
    keys.Resize(kReductionBlock * shape.key_width);
    scores.Resize(internal::LatentScratchFloats(group.rows()));
    const LatentQuery& query = *group.query;
    const int begin = block * kReductionBlock;
    count = static_cast<size_t>(std::min(kReductionBlock, query.num_positions - begin));
    float* key = keys.data();
    for (size_t i = 0; i < count; ++i, key += shape.key_width) {
      LoadLatentToken(shape.kv, query.block_table, Position(query, begin + static_cast<int>(i)),
                      key);
      std::fill(key + shape.key_dim, key + shape.key_width, 0.0f);
    }
    std::fill(key, keys.data() + RoundUp(static_cast<int>(count), 4) * shape.key_width, 0.0f);
  }

  static internal::RecordsAhead Ahead(const Shape& shape, const HeadGroup& group, int block) {
    internal::RecordsAhead ahead(shape.kv.token_bytes());
    const LatentQuery& query = *group.query;
    const int begin = block * kReductionBlock;
    const int end = std::min(begin + kReductionBlock, query.num_positions);
    for (int i = begin; i < end; ++i) {
      const int p = Position(query, i);
      ahead.Add(
          shape.kv.token(query.block_table[p / shape.kv.block_size], p % shape.kv.block_size));
    }
    return ahead;
  }

  static int Position(const LatentQuery& query, int entry) {
    return query.positions != nullptr ? query.positions[entry] : entry;
  }

  AlignedFloats keys, scores;
  size_t count = 0;
};

void RunGroup(const Shape& shape, const HeadGroup& group) {
  thread_local BlockScratch scratch;
  thread_local RowState state;
  state.Start(shape, group);
  const LatentRows rows = state.Rows(shape, state);
  for (int block = 0; block < group.num_blocks(); ++block) {
    scratch.Load(shape, group, block);
    internal::MergeLatentBlock(rows, scratch.keys.data(), scratch.count,
                               BlockScratch::Ahead(shape, group, block + 1), scratch.scores.data());
  }
  state.Finish(shape, group, 0, group.num_heads);
}

// Of the calling thread, kept from call to call.
struct SplitScratch {
  std::vector<RowState> states;   // by group
  std::vector<RowState> partial;  // of a wave: [groups][blocks]
};

SplitScratch& SplitScratchOfThisThread() {
  thread_local SplitScratch scratch;
  return scratch;
}

// Fewer groups than threads: the blocks of a group go to several threads, a wave of blocks at a
// time, and each wave's partial results are merged in block order, exactly as one thread would.
void RunSplitGroups(ThreadPool& pool, const Shape& shape, std::span<const HeadGroup> groups,
                    int64_t multiply_adds) {
  SplitScratch& kept = SplitScratchOfThisThread();
  std::vector<RowState>& states = kept.states;
  std::vector<RowState>& partial = kept.partial;
  if (states.size() < groups.size()) states.resize(groups.size());
  size_t most_rows = 0;
  int most_blocks = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    states[i].Start(shape, groups[i]);
    most_rows = std::max(most_rows, groups[i].rows());
    most_blocks = std::max(most_blocks, groups[i].num_blocks());
  }
  const size_t block_bytes = groups.size() * most_rows * shape.value_width * sizeof(float);
  const int wave_blocks = WaveBlocks(block_bytes, most_blocks);
  const int64_t wave_items = static_cast<int64_t>(groups.size()) * wave_blocks;
  if (partial.size() < static_cast<size_t>(wave_items)) {
    partial.resize(static_cast<size_t>(wave_items));
  }
  const ItemCost item_cost =
      CostOfMultiplyAdds(multiply_adds / (static_cast<int64_t>(groups.size()) * most_blocks));
  const ItemCost merge_cost =
      CostOfElements(static_cast<int64_t>(kQueryRows * shape.value_width) * wave_blocks);

  for (int first = 0; first < most_blocks; first += wave_blocks) {
    pool.ParallelFor(wave_items, item_cost, [&](int64_t item, int) {
      thread_local BlockScratch scratch;
      const size_t at = item / wave_blocks;
      const int block = first + static_cast<int>(item % wave_blocks);
      if (block >= groups[at].num_blocks()) return;
      scratch.Load(shape, groups[at], block);
      partial[item].ResizeSums(groups[at].rows(), shape);
      internal::AttendLatentBlock(partial[item].Rows(shape, states[at]), scratch.keys.data(),
                                  scratch.count, internal::RecordsAhead(0), scratch.scores.data());
    });
    const size_t quads = most_rows / kQueryRows;
    const int64_t merges = static_cast<int64_t>(groups.size() * quads);
    pool.ParallelFor(merges, merge_cost, [&](int64_t item, int) {
      const size_t at = item / quads;
      const size_t row = item % quads * kQueryRows;
      if (row >= groups[at].rows()) return;
      const int last = std::min(first + wave_blocks, groups[at].num_blocks());
      for (int block = first; block < last; ++block) {
        states[at].Merge(shape, partial[at * wave_blocks + (block - first)], row);
      }
      if (last == groups[at].num_blocks()) {
        states[at].Finish(shape, groups[at], static_cast<int>(row),
                          std::min(static_cast<int>(row) + kQueryRows, groups[at].num_heads));
      }
    });
  }
}

std::vector<HeadGroup> MakeGroups(const Shape& shape, std::span<const LatentQuery> queries,
                                  int heads) {
  std::vector<HeadGroup> groups;
  for (const LatentQuery& query : queries) {
    for (int first = 0; first < shape.num_heads; first += heads) {
      groups.push_back({&query, first, std::min(heads, shape.num_heads - first)});
    }
  }
  return groups;
}

}  // namespace

void LatentAttention(ThreadPool& pool, const LatentPool& kv, int num_heads, float scale,
                     std::span<const LatentQuery> queries) {
  if (internal::UseReference()) return ref::LatentAttention(kv, num_heads, scale, queries);
  const int key_dim = kv.latent_dim + kv.rope_dim;
  const Shape shape = {.kv = kv,
                       .num_heads = num_heads,
                       .scale = scale,
                       .key_dim = static_cast<size_t>(key_dim),
                       .key_width = static_cast<size_t>(RoundUp(key_dim, 16)),
                       .value_width = static_cast<size_t>(RoundUp(kv.latent_dim, 16))};
  const size_t threads = static_cast<size_t>(pool.num_threads());
  int heads = kMostHeads;
  std::vector<HeadGroup> groups = MakeGroups(shape, queries, heads);
  while (groups.size() < threads && heads > kFewestHeadsOfSplit) {
    heads /= 2;
    groups = MakeGroups(shape, queries, heads);
  }
  if (groups.empty()) return;
  int most_blocks = 0;
  int64_t multiply_adds = 0;
  for (const HeadGroup& group : groups) {
    most_blocks = std::max(most_blocks, group.num_blocks());
    multiply_adds +=
        int64_t{group.num_heads} * group.query->num_positions * (key_dim + kv.latent_dim);
  }
  if (groups.size() < threads && most_blocks >= 4) {
    return RunSplitGroups(pool, shape, groups, multiply_adds);
  }
  while (groups.size() < threads && heads > kQueryRows) {
    heads /= 2;
    groups = MakeGroups(shape, queries, heads);
  }
  // The longest first, so that no thread starts one when the others are done.
  std::stable_sort(groups.begin(), groups.end(), [](const HeadGroup& a, const HeadGroup& b) {
    return a.query->num_positions > b.query->num_positions;
  });
  const int64_t num_groups = static_cast<int64_t>(groups.size());
  pool.ParallelFor(num_groups, CostOfMultiplyAdds(multiply_adds / num_groups),
                   [&](int64_t item, int) { RunGroup(shape, groups[item]); });
}

}  // namespace sheaf::kernels
