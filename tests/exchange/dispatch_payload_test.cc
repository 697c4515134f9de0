// A dispatch arrives as it was packed, and no malformed one reaches the kernels.

#include "exchange/wire/dispatch_payload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "base/byte_buffer.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using kernels::ActivationBits;

struct Packed {
  FrameHeader header;
  ByteBuffer bytes;
};

Packed Pack(const WorkerPlan& plan, const kernels::QuantizedRows& x) {
  ThreadPool pool(2);
  Packed packed;
  packed.bytes.Resize(DispatchBytes(plan, x));
  EncodeDispatch(pool, plan, x, packed.header, packed.bytes.data());
  return packed;
}

kernels::QuantizedRowsBuffer RandomRows(std::mt19937_64& random, int num_rows, int hidden,
                                        ActivationBits bits = ActivationBits::k16) {
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<size_t>(hidden));
  kernels::QuantizedRowsBuffer rows(bits);
  rows.Resize(num_rows, hidden);
  for (size_t i = 0; i < static_cast<size_t>(num_rows); ++i) {
    for (float& value : row) value = normal(random);
    kernels::QuantizeRow(bits, row.data(), hidden, rows.row_planes(i), rows.row_scales(i),
                         rows.row_sums(i));
  }
  return rows;
}

// Every third row of the batch, each read by one or two of four experts.
WorkerPlan SomePlan(int batch_rows) {
  WorkerPlan plan;
  for (int row = 0; row < batch_rows; row += 3) plan.token_rows.push_back(row);
  const int tokens = static_cast<int>(plan.token_rows.size());
  for (int expert = 0; expert < 4; ++expert) {
    ExpertRun run{3 * expert + 1, 0};
    for (int token = expert % 2; token < tokens; token += expert + 1) {
      plan.rows.push_back(token);
      ++run.num_rows;
    }
    if (run.num_rows > 0) plan.experts.push_back(run);
  }
  return plan;
}

TEST(DispatchPayload, RowsArriveBitForBit) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const auto& [num_tokens, bits] :
       {std::pair{1, ActivationBits::k16}, std::pair{5, ActivationBits::k8},
        std::pair{200, ActivationBits::k16}, std::pair{200, ActivationBits::k8}}) {
    for (const int hidden : {128, 200, 1024}) {
      const kernels::QuantizedRowsBuffer given = RandomRows(random, num_tokens, hidden, bits);
      const kernels::QuantizedRows x = given.view();
      const WorkerPlan plan = SomePlan(num_tokens);
      const Packed packed = Pack(plan, x);
      EXPECT_EQ(packed.header.element, bits == ActivationBits::k8 ? FrameElement::kInt8Groups
                                                                  : FrameElement::kInt16Groups);
      DispatchView view;
      ASSERT_TRUE(DecodeDispatch(packed.header, packed.bytes.bytes(), view).ok());
      EXPECT_EQ(view.experts, plan.experts);
      EXPECT_TRUE(
          std::equal(view.rows.begin(), view.rows.end(), plan.rows.begin(), plan.rows.end()));
      ASSERT_EQ(view.x.num_rows, static_cast<int>(plan.token_rows.size()));
      ASSERT_EQ(view.x.k, hidden);
      ASSERT_EQ(view.x.bits, bits);
      for (int row = 0; row < view.x.num_rows; ++row) {
        const int source = plan.token_rows[static_cast<size_t>(row)];
        EXPECT_EQ(0, std::memcmp(view.x.row_planes(row), x.row_planes(source), x.row_bytes()));
        EXPECT_EQ(0,
                  std::memcmp(view.x.row_scales(row), x.row_scales(source), 4 * x.scales_a_row()));
      }
    }
  }
}

TEST(DispatchPayload, TenKilobytesATokenAtHidden5120AndSixOf8Bits) {
  WorkerPlan plan;
  plan.token_rows = {0};
  plan.experts = {{0, 1}, {1, 1}, {2, 1}, {3, 1}};
  plan.rows = {0, 0, 0, 0};
  kernels::QuantizedRows x;
  x.k = 5120;
  EXPECT_EQ(DispatchBytes(plan, x), 40u * 256 + 40 * 4 + 4 * 8 + 4 * 4);
  x.bits = ActivationBits::k8;
  EXPECT_EQ(DispatchBytes(plan, x), 40u * 128 + 160 * 4 + 4 * 8 + 4 * 4);
}

class MalformedDispatch : public testing::Test {
 protected:
  MalformedDispatch() : random_(1), given_(RandomRows(random_, 3, 128)) {
    WorkerPlan plan;
    plan.token_rows = {0, 1, 2};
    plan.experts = {{1, 2}, {4, 3}};
    plan.rows = {0, 2, 0, 1, 2};
    plan.slots = {0, 1, 2, 3, 4};
    packed_ = Pack(plan, given_.view());
  }
  std::string Decode() {
    DispatchView view;
    return std::string(DecodeDispatch(packed_.header, packed_.bytes.bytes(), view).message());
  }
  void SetWord(uint64_t at, int32_t value) { std::memcpy(packed_.bytes.data() + at, &value, 4); }

  std::mt19937_64 random_;
  kernels::QuantizedRowsBuffer given_;
  Packed packed_;
  const DispatchLayout layout_{ActivationBits::k16, 3, 128, 2, 5};
};

TEST_F(MalformedDispatch, TheUntouchedOneIsGood) { EXPECT_EQ(Decode(), ""); }

TEST_F(MalformedDispatch, RowOutsideTheTokens) {
  SetWord(layout_.rows_at + 4, 3);
  EXPECT_THAT(Decode(), testing::HasSubstr("row 3 of 3"));
  SetWord(layout_.rows_at + 4, -1);
  EXPECT_THAT(Decode(), testing::HasSubstr("row -1 of 3"));
}

TEST_F(MalformedDispatch, ExpertsOutOfOrder) {
  SetWord(layout_.runs_at + 8, 1);
  EXPECT_THAT(Decode(), testing::HasSubstr("not ascending"));
  SetWord(layout_.runs_at, -5);
  EXPECT_THAT(Decode(), testing::HasSubstr("expert -5"));
}

TEST_F(MalformedDispatch, RunsThatDoNotAddUp) {
  SetWord(layout_.runs_at + 12, 2);
  EXPECT_THAT(Decode(), testing::HasSubstr("rows of the experts: wanted 5, got 4"));
  SetWord(layout_.runs_at + 12, 4);
  EXPECT_THAT(Decode(), testing::HasSubstr("rows of the experts"));
  SetWord(layout_.runs_at + 12, INT32_MIN);
  EXPECT_THAT(Decode(), testing::HasSubstr("rows of the experts"));
}

TEST_F(MalformedDispatch, AnotherElementThanItsBytes) {
  packed_.header.element = FrameElement::kInt8Groups;
  EXPECT_THAT(Decode(), testing::HasSubstr("payload bytes"));
}

TEST_F(MalformedDispatch, SizesThatDisagree) {
  packed_.header.tokens = 4;
  EXPECT_THAT(Decode(), testing::HasSubstr("payload bytes"));
  packed_.header.tokens = 0;
  EXPECT_THAT(Decode(), testing::HasSubstr("empty"));
  packed_.header.tokens = kMaxFrameTokens;
  packed_.header.hidden = kMaxFrameHidden;
  EXPECT_THAT(Decode(), testing::HasSubstr("payload bytes"));
}

}  // namespace
}  // namespace sheaf
