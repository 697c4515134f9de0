// The product of a piece of an output with 4-bit or 8-bit weights by one tile (integer_tile-inl.h):
// tiles of rows and row blocks, over runs of groups whose activations are copied into the form that
// the tile reads.
//
// Included by integer_product_cpu-inl.h alone, after a tile and into its namespace SHEAF_TILE, once
// for each; hence no guard.

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE {

// Tiles whose activations stay in the second-level cache while all blocks of a piece pass.
inline constexpr int kBatchTiles = 4;

// Groups in a run: its activations, those of the next run and the weights of a row block fit the
// first-level cache. One row is different: its weights should be read in long stretches.
constexpr int RunGroups(int num_rows) { return num_rows == 1 ? 64 : 48 / num_rows; }
inline constexpr int kRunRowGroups = 64;

// The activations of a run in the form of TileInput.
struct RunRows {
  alignas(64) int8_t x[kRunRowGroups * 2 * kActivationGroup];
  alignas(64) float scales[kRunRowGroups * kSumsPerGroup];
  alignas(64) int32_t offsets[kRunRowGroups * kSumsPerGroup];
};

// offsets[segment * kStride] for the segments of some groups of one row.
template <int kGranules, int kStride>
void CopyOffsets(const int32_t* sums, int num_segments, int32_t factor, int32_t* offsets) {
  for (int s = 0; s < num_segments; ++s) {
    int32_t sum = sums[s * kGranules];
    for (int granule = 1; granule < kGranules; ++granule) sum += sums[s * kGranules + granule];
    offsets[s * kStride] = factor * sum;
  }
}

template <int kBits, int R>
void CopyRows(const PackedIntegers<kBits>& w, const IntegerPiece& piece, int first_row, int group,
              int num_groups, RunRows& run) {
  const int32_t factor = w.zeros == nullptr ? kCodeBias<kBits> - w.kSymmetricZero : -1;
  for (int r = 0; r < R; ++r) {
    const int row = piece.row(first_row + r);
    const int8_t* hi = piece.x.row_planes(row) + size_t{kGroupBytes} * group;
    int8_t* out = run.x + r * kGranuleBytes;
    for (int g = 0; g < num_groups; ++g, hi += kGroupBytes) {
      for (int i = 0; i < kActivationGroup; i += kSumGranule, out += R * kGranuleBytes) {
        CopyGranule(hi + i, hi + kActivationGroup + i, out);
      }
    }
    const float* scales = piece.x.row_scales(row) + group;
    for (int g = 0; g < num_groups; ++g) run.scales[g * R + r] = scales[g];
    const int32_t* sums = piece.x.row_sums(row) + size_t{kSumsPerGroup} * group;
    int32_t* offsets = run.offsets + r;
    switch (w.segment) {
      case 128:
        CopyOffsets<4, R>(sums, num_groups, factor, offsets);
        break;
      case 64:
        CopyOffsets<2, R>(sums, 2 * num_groups, factor, offsets);
        break;
      default:
        CopyOffsets<1, R>(sums, 4 * num_groups, factor, offsets);
        break;
    }
  }
}

template <int kBits, int R>
void CopyByteRows(const PackedIntegers<kBits>& w, const IntegerPiece& piece, int first_row,
                  int group, int num_groups, RunRows& run) {
  const int32_t factor = w.zeros == nullptr ? kCodeBias<kBits> - w.kSymmetricZero : -1;
  const int num_granules = kSumsPerGroup * num_groups;
  for (int r = 0; r < R; ++r) {
    const int row = piece.row(first_row + r);
    const int8_t* bytes = piece.x.row_planes(row) + size_t{kActivationGroup} * group;
    const float* scales = piece.x.row_scales(row) + size_t{kSumsPerGroup} * group;
    int8_t* out = run.x + r * kByteGranuleBytes<kBits>;
    for (int g = 0; g < num_granules; ++g, out += R * kByteGranuleBytes<kBits>) {
      CopyByteGranule<kBits>(bytes + g * kSumGranule, out);
      run.scales[g * R + r] = scales[g];
    }
    CopyOffsets<1, R>(piece.x.row_sums(row) + size_t{kSumsPerGroup} * group, num_granules, factor,
                      run.offsets + r);
  }
}

// Asks for a part (of num_parts) of the planes that CopyRows will want next: the next groups of
// these rows, or the first ones of the rows after them.
template <int R>
void PrefetchRows(const IntegerPiece& piece, int first_row, int next_group, int part,
                  int num_parts) {
  const int total_groups = piece.x.groups();
  if (next_group == total_groups) {
    first_row += R;
    next_group = 0;
  }
  const int group_bytes = GroupBytes(piece.x.bits);
  const int lines = std::min(RunGroups(R), total_groups - next_group) * (group_bytes / 64);
  const int begin = lines * part / num_parts;
  const int end = lines * (part + 1) / num_parts;
  for (int i = first_row; i < std::min(first_row + R, piece.row_end); ++i) {
    const int8_t* planes = piece.x.row_planes(piece.row(i)) + size_t(group_bytes) * next_group;
    for (int line = begin; line < end; ++line) hwy::Prefetch(planes + 64 * line);
  }
}

template <int kBits, ActivationBits kInputs, int R, int B>
HWY_INLINE void MultiplyOneTile(const TileInput& t) {
  if constexpr (kInputs == ActivationBits::k8) {
    MultiplyByteTile<kBits, R, B>(t);
  } else {
    MultiplyTile<kBits, R, B>(t);
  }
}

template <int kBits, ActivationBits kInputs, int R>
void MultiplyRows(const PackedIntegers<kBits>& w, const IntegerPiece& piece, int first_row,
                  int first_block, int num_blocks) {
  const int segments_per_group = kActivationGroup / w.segment;
  const int num_groups = NumGroups(w.k);
  // Of a whole row of blocks: they are kept between runs of groups.
  alignas(64) float acc[kSumBlocks * R * kRowBlock];
  std::fill_n(acc, num_blocks * R * kRowBlock, 0.0f);
  RunRows run;
  const size_t segment_scale_bytes = kRowBlock * ScaleBytes(w.scale_format);
  TileInput t;
  t.code_stride = size_t{w.kStepBytes} * w.steps();
  t.scale_stride = segment_scale_bytes * w.segments();
  t.zero_stride = size_t{kRowBlock} * w.segments();
  t.scale_format = w.scale_format;
  t.segments_per_group = segments_per_group;
  t.x = run.x;
  t.x_scales = run.scales;
  t.offsets = run.offsets;
  for (int group = 0; group < num_groups; group += RunGroups(R)) {
    t.num_groups = std::min(RunGroups(R), num_groups - group);
    if constexpr (kInputs == ActivationBits::k8) {
      CopyByteRows<kBits, R>(w, piece, first_row, group, t.num_groups, run);
    } else {
      CopyRows<kBits, R>(w, piece, first_row, group, t.num_groups, run);
    }
    for (int b = 0; b < num_blocks;) {
      const size_t block = first_block + b;
      const size_t segment = static_cast<size_t>(group) * segments_per_group;
      t.codes = w.codes + block * t.code_stride + size_t{w.kStepBytes} * 16 * group;
      t.scales = static_cast<const uint8_t*>(w.scales) + block * t.scale_stride +
                 segment * segment_scale_bytes;
      t.zeros =
          w.zeros == nullptr ? nullptr : w.zeros + block * t.zero_stride + segment * kRowBlock;
      t.acc = acc + b * R * kRowBlock;
      PrefetchRows<R>(piece, first_row, group + t.num_groups, b, num_blocks);
      if constexpr (R <= kPairRows) {
        if (b + 2 <= num_blocks) {
          MultiplyOneTile<kBits, kInputs, R, 2>(t);
          b += 2;
          continue;
        }
      }
      MultiplyOneTile<kBits, kInputs, R, 1>(t);
      ++b;
    }
  }
  for (int b = 0; b < num_blocks; ++b) {
    const int output = (first_block + b) * kRowBlock;
    const int count = std::min(kRowBlock, w.n - output);
    for (int r = 0; r < R; ++r) {
      float* sums = acc + (b * R + r) * kRowBlock;
      if (piece.bias != nullptr) {
        for (int i = 0; i < count; ++i) sums[i] += piece.bias[output + i];
      }
      float* y = piece.y + (first_row + r - piece.row_begin) * piece.y_stride + output -
                 piece.block_begin * kRowBlock;
      std::memcpy(y, sums, count * sizeof(float));
    }
  }
}

template <int kBits, ActivationBits kInputs, int R>
void MultiplyUpTo(int rows, const PackedIntegers<kBits>& w, const IntegerPiece& piece,
                  int first_row, int first_block, int num_blocks) {
  if constexpr (R > 1) {
    if (rows < R) {
      return MultiplyUpTo<kBits, kInputs, R - 1>(rows, w, piece, first_row, first_block,
                                                 num_blocks);
    }
  }
  MultiplyRows<kBits, kInputs, R>(w, piece, first_row, first_block, num_blocks);
}

template <int kBits, ActivationBits kInputs>
void MultiplyTiles(const PackedIntegers<kBits>& w, const IntegerPiece& piece) {
  const int num_rows = piece.row_end - piece.row_begin;
  // Tiles of nearly equal height: a tile of one row would cost almost as much as one of several.
  const int num_tiles = (num_rows + kTileRows - 1) / kTileRows;
  for (int batch = 0; batch < num_tiles; batch += kBatchTiles) {
    const int batch_end = std::min(num_tiles, batch + kBatchTiles);
    for (int block = piece.block_begin; block < piece.block_end; block += kSumBlocks) {
      const int num_blocks = std::min(kSumBlocks, piece.block_end - block);
      for (int tile = batch; tile < batch_end; ++tile) {
        const int begin = static_cast<int>(int64_t{num_rows} * tile / num_tiles);
        const int end = static_cast<int>(int64_t{num_rows} * (tile + 1) / num_tiles);
        MultiplyUpTo<kBits, kInputs, kTileRows>(end - begin, w, piece, piece.row_begin + begin,
                                                block, num_blocks);
      }
    }
  }
}

template <int kBits>
void MultiplyPiece(const PackedIntegers<kBits>& w, const IntegerPiece& piece) {
  if (piece.x.bits == ActivationBits::k8) {
    return MultiplyTiles<kBits, ActivationBits::k8>(w, piece);
  }
  MultiplyTiles<kBits, ActivationBits::k16>(w, piece);
}

}  // namespace sheaf::kernels::HWY_NAMESPACE::SHEAF_TILE
HWY_AFTER_NAMESPACE();
