#include "kernels/attention/paged_attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/round_up.h"
#include "kernels/attention/block_waves.h"
#include "kernels/attention/paged_attention_rows.h"
#include "kernels/simd/aligned_floats.h"
#include "kernels/simd/reference_switch.h"

namespace sheaf::kernels {
namespace {

using internal::kQueryRows;

// A tile of this many query rows shares one conversion of each block of keys and values to floats,
// and its rows (queries and sums, 2 * 192 * 128 floats) stay in a core's L2 cache beside them.
constexpr int kTileRows = 192;

struct Shape {
  const KvPool& kv;
  int heads_per_kv;
  int rows_per_token;  // heads_per_kv in whole groups of kQueryRows
  size_t width;        // head_dim in whole lanes
  float scale;
  ptrdiff_t q_stride;
  ptrdiff_t out_stride;
};

// Consecutive tokens of one sequence under one key/value head.
struct Tile {
  const AttentionSequence* sequence;
  int kv_head;
  int first_token;
  int num_tokens;

  int positions() const { return sequence->first_position + first_token + num_tokens; }
  int num_blocks() const { return (positions() + kReductionBlock - 1) / kReductionBlock; }
  size_t num_rows(const Shape& shape) const {
    return static_cast<size_t>(num_tokens) * shape.rows_per_token;
  }
  // How many positions of `block` a token of the tile sees.
  int count(int block, int token) const {
    const int seen = sequence->first_position + first_token + token + 1 - block * kReductionBlock;
    return std::clamp(seen, 0, kReductionBlock);
  }
};

struct KvScratch {
  void Load(const Shape& shape, const Tile& tile, int block) {
    keys.Resize(kReductionBlock * shape.width);
    values.Resize(kReductionBlock * shape.width);
    const int begin = block * kReductionBlock;
    internal::LoadKvBlock(shape.kv, tile.sequence->block_table, tile.kv_head, begin,
                          std::min(begin + kReductionBlock, tile.positions()), shape.width,
                          keys.data(), values.data());
  }
  AlignedFloats keys, values;
};

// Maximum, sum and weighted values of some rows: of one block, or running.
struct RowSums {
  void Resize(size_t rows, size_t width) {
    m.resize(rows);
    l.resize(rows);
    o.Resize(rows * width);
  }
  std::vector<float> m, l;
  AlignedFloats o;
};

struct TileState {
  void Start(const Shape& shape, const Tile& tile) {
    const size_t rows = tile.num_rows(shape);
    const size_t head_dim = static_cast<size_t>(shape.kv.head_dim);
    q.Assign(rows * shape.width, 0.0f);
    for (int token = 0; token < tile.num_tokens; ++token) {
      const float* in =
          tile.sequence->q + (tile.first_token + token) * shape.q_stride +
          static_cast<ptrdiff_t>(tile.kv_head) * shape.heads_per_kv * shape.kv.head_dim;
      for (int head = 0; head < shape.heads_per_kv; ++head) {
        std::copy_n(in + head * head_dim, head_dim,
                    q.data() + (token * shape.rows_per_token + head) * shape.width);
      }
    }
    sums.m.assign(rows, -std::numeric_limits<float>::infinity());
    sums.l.assign(rows, 0.0f);
    sums.o.Assign(rows * shape.width, 0.0f);
  }

  void Finish(const Shape& shape, const Tile& tile) const {
    for (int token = 0; token < tile.num_tokens; ++token) {
      float* out = tile.sequence->out + (tile.first_token + token) * shape.out_stride +
                   static_cast<ptrdiff_t>(tile.kv_head) * shape.heads_per_kv * shape.kv.head_dim;
      for (int head = 0; head < shape.heads_per_kv; ++head) {
        const size_t row = static_cast<size_t>(token) * shape.rows_per_token + head;
        internal::FinishRow(sums.o.data() + row * shape.width, sums.l[row], shape.kv.head_dim,
                            out + static_cast<ptrdiff_t>(head) * shape.kv.head_dim);
      }
    }
  }

  AlignedFloats q;
  RowSums sums;
};

// Calls use(row, count) for each group of kQueryRows rows that sees something of `block`.
template <typename Use>
void EachRowGroup(const Shape& shape, const Tile& tile, int block, const Use& use) {
  for (int token = 0; token < tile.num_tokens; ++token) {
    const int count = tile.count(block, token);
    if (count == 0) continue;
    for (int row = 0; row < shape.rows_per_token; row += kQueryRows) {
      use(static_cast<size_t>(token) * shape.rows_per_token + row, static_cast<size_t>(count));
    }
  }
}

void RunTile(const Shape& shape, const Tile& tile) {
  thread_local KvScratch kv;
  thread_local TileState state;
  thread_local RowSums block_sums;
  state.Start(shape, tile);
  block_sums.Resize(kQueryRows, shape.width);
  for (int block = 0; block < tile.num_blocks(); ++block) {
    kv.Load(shape, tile, block);
    EachRowGroup(shape, tile, block, [&](size_t row, size_t count) {
      internal::AttendRows(state.q.data() + row * shape.width, kv.keys.data(), kv.values.data(),
                           count, shape.width, shape.scale, block_sums.m.data(),
                           block_sums.l.data(), block_sums.o.data());
      internal::MergeRows(block_sums.m.data(), block_sums.l.data(), block_sums.o.data(),
                          shape.width, state.sums.m.data() + row, state.sums.l.data() + row,
                          state.sums.o.data() + row * shape.width);
    });
  }
  state.Finish(shape, tile);
}

// Of the calling thread, kept from call to call.
struct SplitScratch {
  std::vector<TileState> states;      // by tile
  std::vector<float> m, l;            // of a wave: [tiles][blocks][rows]
  AlignedFloats o;                    // [tiles][blocks][rows][width]
};

SplitScratch& SplitScratchOfThisThread() {
  thread_local SplitScratch scratch;
  return scratch;
}

// Few tiles over long contexts: the blocks of a tile go to several threads, a wave of blocks at a
// time, and each wave's partial results are merged in block order, exactly as one thread would.
void RunSplitTiles(ThreadPool& pool, const Shape& shape, std::span<const Tile> tiles,
                   int64_t multiply_adds) {
  SplitScratch& scratch = SplitScratchOfThisThread();
  std::vector<TileState>& states = scratch.states;
  if (states.size() < tiles.size()) states.resize(tiles.size());
  size_t most_rows = 0;
  int most_blocks = 0;
  for (size_t i = 0; i < tiles.size(); ++i) {
    states[i].Start(shape, tiles[i]);
    most_rows = std::max(most_rows, tiles[i].num_rows(shape));
    most_blocks = std::max(most_blocks, tiles[i].num_blocks());
  }
  const size_t block_bytes = tiles.size() * most_rows * (shape.width + 2) * sizeof(float);
  const int wave_blocks = WaveBlocks(block_bytes, most_blocks);
  const int64_t wave_items = static_cast<int64_t>(tiles.size()) * wave_blocks;
  const size_t wave_rows = static_cast<size_t>(wave_items) * most_rows;
  if (scratch.m.size() < wave_rows) scratch.m.resize(wave_rows);
  if (scratch.l.size() < wave_rows) scratch.l.resize(wave_rows);
  scratch.o.Resize(wave_rows * shape.width);
  const ItemCost item_cost = CostOfMultiplyAdds(
      multiply_adds / (static_cast<int64_t>(tiles.size()) * most_blocks));
  const ItemCost merge_cost =
      CostOfElements(static_cast<int64_t>(most_rows * shape.width) * wave_blocks);

  for (int first = 0; first < most_blocks; first += wave_blocks) {
    pool.ParallelFor(wave_items, item_cost, [&](int64_t item, int) {
      thread_local KvScratch kv;
      const size_t tile_index = item / wave_blocks;
      const Tile& tile = tiles[tile_index];
      const int block = first + static_cast<int>(item % wave_blocks);
      if (block >= tile.num_blocks()) return;
      kv.Load(shape, tile, block);
      const size_t first_row = static_cast<size_t>(item) * most_rows;
      EachRowGroup(shape, tile, block, [&](size_t row, size_t count) {
        const size_t at = first_row + row;
        internal::AttendRows(states[tile_index].q.data() + row * shape.width, kv.keys.data(),
                             kv.values.data(), count, shape.width, shape.scale,
                             scratch.m.data() + at, scratch.l.data() + at,
                             scratch.o.data() + at * shape.width);
      });
    });
    pool.ParallelFor(static_cast<int64_t>(tiles.size()), merge_cost, [&](int64_t tile_index, int) {
      const Tile& tile = tiles[tile_index];
      RowSums& state = states[tile_index].sums;
      const int end = std::min(first + wave_blocks, tile.num_blocks());
      for (int block = first; block < end; ++block) {
        const size_t first_row =
            static_cast<size_t>(tile_index * wave_blocks + (block - first)) * most_rows;
        EachRowGroup(shape, tile, block, [&](size_t row, size_t) {
          const size_t at = first_row + row;
          internal::MergeRows(scratch.m.data() + at, scratch.l.data() + at,
                              scratch.o.data() + at * shape.width, shape.width,
                              state.m.data() + row, state.l.data() + row,
                              state.o.data() + row * shape.width);
        });
      }
    });
  }
  for (size_t i = 0; i < tiles.size(); ++i) states[i].Finish(shape, tiles[i]);
}

std::vector<Tile> MakeTiles(const Shape& shape, std::span<const AttentionSequence> sequences,
                            int tile_tokens) {
  std::vector<Tile> tiles;
  for (const AttentionSequence& sequence : sequences) {
    for (int first = 0; first < sequence.num_tokens; first += tile_tokens) {
      for (int head = 0; head < shape.kv.num_kv_heads; ++head) {
        tiles.push_back(
            {&sequence, head, first, std::min(tile_tokens, sequence.num_tokens - first)});
      }
    }
  }
  return tiles;
}

}  // namespace

void PagedAttention(ThreadPool& pool, const KvPool& kv, int num_heads, float scale,
                    std::span<const AttentionSequence> sequences, ptrdiff_t q_stride,
                    ptrdiff_t out_stride) {
  if (internal::UseReference()) {
    return ref::PagedAttention(kv, num_heads, scale, sequences, q_stride, out_stride);
  }
  const int heads_per_kv = num_heads / kv.num_kv_heads;
  const Shape shape = {.kv = kv,
                       .heads_per_kv = heads_per_kv,
                       .rows_per_token = RoundUp(heads_per_kv, kQueryRows),
                       .width = static_cast<size_t>(RoundUp(kv.head_dim, 16)),
                       .scale = scale,
                       .q_stride = q_stride,
                       .out_stride = out_stride};
  // Smaller tiles until there is work for every thread, but no smaller than two conversions are
  // worth.
  const size_t wanted_tiles = pool.num_threads() > 1 ? size_t{2} * pool.num_threads() : 1;
  int tile_tokens = std::max(1, kTileRows / shape.rows_per_token);
  std::vector<Tile> tiles = MakeTiles(shape, sequences, tile_tokens);
  while (tiles.size() < wanted_tiles && tile_tokens * shape.rows_per_token > 2 * 16) {
    tile_tokens = (tile_tokens + 1) / 2;
    tiles = MakeTiles(shape, sequences, tile_tokens);
  }
  if (tiles.empty()) return;
  int most_blocks = 0;
  int64_t multiply_adds = 0;
  for (const Tile& tile : tiles) {
    most_blocks = std::max(most_blocks, tile.num_blocks());
    multiply_adds += int64_t{tile.num_tokens} * tile.positions() * heads_per_kv * kv.head_dim * 2;
  }
  if (tiles.size() < wanted_tiles && most_blocks >= 4) {
    return RunSplitTiles(pool, shape, tiles, multiply_adds);
  }
  // The longest first, so that no thread starts one when the others are done.
  std::stable_sort(tiles.begin(), tiles.end(), [](const Tile& a, const Tile& b) {
    return a.positions() * a.num_tokens > b.positions() * b.num_tokens;
  });
  const int64_t num_tiles = static_cast<int64_t>(tiles.size());
  pool.ParallelFor(num_tiles, CostOfMultiplyAdds(multiply_adds / num_tiles),
                   [&](int64_t item, int) { RunTile(shape, tiles[item]); });
}

void StoreKvToken(const KvPool& kv, const int32_t* block_table, int position, const float* k,
                  const float* v) {
  const int64_t block = block_table[position / kv.block_size];
  const int slot = position % kv.block_size;
  for (int head = 0; head < kv.num_kv_heads; ++head) {
    const ptrdiff_t offset = static_cast<ptrdiff_t>(head) * kv.head_dim;
    StoreKv(k + offset, kv.head_dim, kv.format, kv.key(block, head, slot));
    StoreKv(v + offset, kv.head_dim, kv.format, kv.value(block, head, slot));
  }
}

}  // namespace sheaf::kernels
