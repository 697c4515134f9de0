// Rows whose columns ranks have made apart are the rows that one rank would have made.

#include "router/attention/rank_rows.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "router/attention/activation_rows.h"
#include "tests/exchange/gather/in_process_ranks.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using kernels::ActivationBits;
using kernels::NumGroups;
using kernels::QuantizedRowsBuffer;
using testing::RandomSeed;

struct Rows {
  int num_rows = 0;
  int width = 0;
  std::vector<float> values;

  const float* row(int r) const { return values.data() + size_t(r) * size_t(width); }
};

Rows RandomRows(std::mt19937_64& random, int num_rows, int width) {
  Rows rows{num_rows, width, std::vector<float>(size_t(num_rows) * size_t(width))};
  std::normal_distribution<float> normal;
  for (float& value : rows.values) value = normal(random);
  return rows;
}

std::vector<float> Columns(const Rows& rows, const IndexRange& range) {
  std::vector<float> out;
  for (int r = 0; r < rows.num_rows; ++r)
    out.insert(out.end(), rows.row(r) + range.first, rows.row(r) + range.end());
  return out;
}

void Quantize(const float* values, int num_rows, int width, QuantizedRowsBuffer& out) {
  out.Resize(num_rows, width);
  for (int r = 0; r < num_rows; ++r)
    QuantizeInto(values + size_t(r) * size_t(width), width, r, out);
}

bool SameRows(const QuantizedRowsBuffer& a, const QuantizedRowsBuffer& b) {
  const kernels::QuantizedRows x = a.view(), y = b.view();
  if (x.num_rows != y.num_rows || x.k != y.k) return false;
  const auto rows = size_t(x.num_rows);
  return x.bits == y.bits && std::equal(x.planes, x.planes + rows * x.row_bytes(), y.planes) &&
         std::equal(x.scales, x.scales + rows * x.scales_a_row(), y.scales) &&
         std::equal(x.sums, x.sums + rows * x.sums_a_row(), y.sums);
}

// What every rank does, each in its thread.
void OnEveryRank(int num_ranks, const std::function<void(int rank, RankRows&)>& work) {
  InProcessRanks group(num_ranks, absl::Seconds(60));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadPool pool(1 + rank % 2);
      RankRows rows(group.rank(rank), pool);
      work(rank, rows);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(RankRows, FloatsAndGroupsOfOneGatherComeTogether) {
  const uint64_t seed = RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const auto& [num_rows, bits] :
       {std::pair{1, ActivationBits::k8}, std::pair{5, ActivationBits::k16},
        std::pair{33, ActivationBits::k8}, std::pair{33, ActivationBits::k16}}) {
    const int tail = 1 + static_cast<int>(random() % 128);
    const Rows floats = RandomRows(random, num_rows, 11);
    const Rows inner = RandomRows(random, num_rows, 5 * 128 + tail);
    // The second rank has none of the floats.
    const std::vector<IndexRange> float_columns = {{0, 4}, {4, 0}, {4, 7}};
    const std::vector<IndexRange> group_columns = {{0, 256}, {256, 128}, {384, 256 + tail}};
    ASSERT_TRUE(RankRows::AreWholeGroups(group_columns));
    QuantizedRowsBuffer wanted(bits);
    Quantize(inner.values.data(), num_rows, inner.width, wanted);
    OnEveryRank(3, [&, num_rows = num_rows, bits = bits](int rank, RankRows& rows) {
      const std::vector<float> own = Columns(floats, float_columns[size_t(rank)]);
      std::vector<float> all(floats.values.size());
      QuantizedRowsBuffer own_groups(bits), all_groups(bits);
      Quantize(Columns(inner, group_columns[size_t(rank)]).data(), num_rows,
               group_columns[size_t(rank)].count, own_groups);
      all_groups.Resize(num_rows, inner.width);
      const RankRows::Piece piece{own.data(), float_columns, floats.width, all.data()};
      const RankRows::GroupsPiece groups{&own_groups, group_columns, inner.width, &all_groups};
      const absl::Status status = rows.PutTogether(num_rows, {&piece, 1}, {&groups, 1});
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_EQ(all, floats.values);
      EXPECT_TRUE(SameRows(all_groups, wanted));
    });
  }
}

TEST(RankRows, ColumnsThatCutAGroupAreNotWhole) {
  const std::vector<IndexRange> cut = {{0, 192}, {192, 64}};
  EXPECT_FALSE(RankRows::AreWholeGroups(cut));
  const std::vector<IndexRange> short_end = {{0, 128}, {128, 1}};
  EXPECT_TRUE(RankRows::AreWholeGroups(short_end));
}

TEST(RankRows, APartOfAnotherSizeIsNotTaken) {
  const std::vector<IndexRange> columns = {{0, 3}, {3, 3}};
  const std::vector<IndexRange> other_columns = {{0, 4}, {4, 2}};
  const std::vector<float> own(2 * 4);
  OnEveryRank(2, [&](int rank, RankRows& rows) {
    std::vector<float> all(2 * 6);
    const RankRows::Piece piece{own.data(), rank == 0 ? columns : other_columns, 6, all.data()};
    const absl::Status status = rows.PutTogether(2, {&piece, 1});
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_NE(
        status.message().find(rank == 0 ? "attention rank 1: wanted 24 bytes of 2 rows, got 16"
                                        : "attention rank 0: wanted 32 bytes of 2 rows, got 24"),
        std::string::npos)
        << status;
  });
}

}  // namespace
}  // namespace sheaf
