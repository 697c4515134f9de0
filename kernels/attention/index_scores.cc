#include "kernels/attention/index_scores.h"

#include <algorithm>
#include <vector>

#include "kernels/attention/index_scores_rows.h"
#include "kernels/linear/scaled_fp8.h"
#include "kernels/simd/aligned_floats.h"
#include "kernels/simd/reference_switch.h"

namespace sheaf::kernels {
namespace {

// Queries that share one conversion of the keys to floats.
constexpr size_t kChunkQueries = 8;
// A longer span would save nothing.
constexpr int64_t kMostSpanPanels = 64;

constexpr int CeilDiv(int x, int y) { return (x + y - 1) / y; }

// Consecutive queries of one block table.
struct Chunk {
  std::span<const IndexQuery> queries;

  int num_positions() const {
    int most = 0;
    for (const IndexQuery& query : queries) most = std::max(most, query.num_positions);
    return most;
  }
};

std::vector<Chunk> MakeChunks(std::span<const IndexQuery> queries) {
  std::vector<Chunk> chunks;
  for (size_t first = 0; first < queries.size();) {
    size_t count = 1;
    while (count < kChunkQueries && first + count < queries.size() &&
           queries[first + count].block_table == queries[first].block_table) {
      ++count;
    }
    chunks.push_back({queries.subspan(first, count)});
    first += count;
  }
  return chunks;
}

// Positions [begin, end) of a chunk's queries.
struct Span {
  const Chunk* chunk;
  int begin;
  int end;
};

void RunSpan(const IndexKeyPool& keys, int num_heads, float scale, int panel_positions,
             const Span& span) {
  thread_local AlignedFloats rows, panel;
  const int32_t* block_table = span.chunk->queries.front().block_table;
  const size_t dim = static_cast<size_t>(keys.dim);
  rows.Resize(internal::IndexRowsFloats(dim));
  panel.Resize((dim + 3) / 4 * 4 * panel_positions);
  for (int begin = span.begin; begin < span.end; begin += panel_positions) {
    const int end = std::min(begin + panel_positions, span.end);
    internal::LoadIndexPanel(keys, block_table, begin, static_cast<size_t>(end - begin),
                             rows.data(), panel.data());
    internal::RecordsAhead ahead(keys.token_bytes());
    for (int p = end; p < std::min(end + panel_positions, span.end); ++p) {
      ahead.Add(keys.token(block_table[p / keys.block_size], p % keys.block_size));
    }
    for (const IndexQuery& query : span.chunk->queries) {
      const int count = std::min(end, query.num_positions) - begin;
      if (count <= 0) continue;
      internal::ScoreIndexPanel(query, num_heads, dim, scale, panel.data(),
                                static_cast<size_t>(count), ahead, query.scores + begin);
      ahead = internal::RecordsAhead(keys.token_bytes());
    }
  }
}

}  // namespace

size_t IndexKeyPool::TokenBytes(KvFormat format, int dim) {
  const size_t count = static_cast<size_t>(dim);
  return format == KvFormat::kFp8E4M3 ? ScaledFp8Bytes(count) : count * KvBytes(format);
}

void StoreIndexKey(const IndexKeyPool& keys, const int32_t* block_table, int position,
                   const float* key) {
  uint8_t* record = keys.token(block_table[position / keys.block_size], position % keys.block_size);
  if (keys.format == KvFormat::kFp8E4M3) {
    StoreScaledFp8(key, keys.dim, Fp8Scale::kPowerOfTwo, record);
  } else {
    StoreKv(key, keys.dim, keys.format, record);
  }
}

void IndexScores(ThreadPool& pool, const IndexKeyPool& keys, int num_heads, float scale,
                 std::span<const IndexQuery> queries) {
  if (internal::UseReference()) return ref::IndexScores(keys, num_heads, scale, queries);
  const int panel = static_cast<int>(internal::IndexPanelPositions());
  const std::vector<Chunk> chunks = MakeChunks(queries);
  int64_t panels = 0;
  for (const Chunk& chunk : chunks) panels += CeilDiv(chunk.num_positions(), panel);
  // Spans short enough that every thread has several, and that they end at about the same time.
  const int64_t span_panels =
      std::clamp<int64_t>(panels / (int64_t{8} * pool.num_threads()), 1, kMostSpanPanels);
  const int span = static_cast<int>(span_panels) * panel;
  std::vector<Span> spans;
  for (const Chunk& chunk : chunks) {
    for (int begin = 0; begin < chunk.num_positions(); begin += span) {
      spans.push_back({&chunk, begin, std::min(begin + span, chunk.num_positions())});
    }
  }
  if (spans.empty()) return;
  int64_t scores = 0;
  for (const IndexQuery& query : queries) scores += query.num_positions;
  const ItemCost cost =
      CostOfMultiplyAdds(scores * num_heads * keys.dim / static_cast<int64_t>(spans.size()));
  pool.ParallelFor(static_cast<int64_t>(spans.size()), cost,
                   [&](int64_t item, int) { RunSpan(keys, num_heads, scale, panel, spans[item]); });
}

}  // namespace sheaf::kernels
