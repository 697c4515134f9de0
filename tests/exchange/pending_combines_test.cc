// Only the answer that is waited for is taken: not a stale, a repeated or a stranger's one.

#include "exchange/pending_combines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sheaf {
namespace {

FrameHeader Dispatch(uint64_t epoch, uint64_t step, int32_t layer) {
  FrameHeader header;
  header.kind = FrameKind::kDispatch;
  header.type = FrameType::kInt16Groups;
  header.epoch = Epoch(epoch);
  header.step = StepId(step);
  header.layer = LayerId(layer);
  header.hidden = 4;
  header.pairs = 2;
  return header;
}

class PendingCombinesTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(pending_.Add({WorkerId(0), Dispatch(3, 10, 5), {}, first_}).ok());
    ASSERT_TRUE(pending_.Add({WorkerId(2), Dispatch(3, 10, 5), {}, second_}).ok());
  }
  static FrameHeader Combine(uint64_t epoch, uint64_t step, int32_t layer, int32_t source) {
    return CombineHeaderFor(Dispatch(epoch, step, layer), WorkerId(source));
  }

  std::vector<uint8_t> first_ = std::vector<uint8_t>(32);
  std::vector<uint8_t> second_ = std::vector<uint8_t>(32);
  PendingCombines pending_{Epoch(3)};
};

TEST_F(PendingCombinesTest, AnswersFindTheirBuffers) {
  PendingCombines::Entry* entry = pending_.Match(Combine(3, 10, 5, 2));
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->combine.data(), second_.data());
  pending_.Complete(*entry);
  EXPECT_FALSE(pending_.empty());
  EXPECT_THAT(pending_.Missing(), testing::ElementsAre(WorkerId(0)));
  pending_.Complete(*pending_.Match(Combine(3, 10, 5, 0)));
  EXPECT_TRUE(pending_.empty());
  EXPECT_EQ(pending_.dropped_frames(), 0u);
}

TEST_F(PendingCombinesTest, DropsWhatIsNotWaitedFor) {
  EXPECT_EQ(pending_.Match(Combine(2, 10, 5, 0)), nullptr) << "old epoch";
  EXPECT_EQ(pending_.Match(Combine(3, 9, 5, 0)), nullptr) << "old step";
  EXPECT_EQ(pending_.Match(Combine(3, 10, 4, 0)), nullptr) << "other layer";
  EXPECT_EQ(pending_.Match(Combine(3, 10, 5, 1)), nullptr) << "a worker that was not asked";
  FrameHeader chunk = Combine(3, 10, 5, 0);
  chunk.chunk = 1;
  EXPECT_EQ(pending_.Match(chunk), nullptr) << "other chunk";
  FrameHeader longer = Combine(3, 10, 5, 0);
  longer.payload_bytes = 64;
  EXPECT_EQ(pending_.Match(longer), nullptr) << "more than the buffer holds";
  EXPECT_EQ(pending_.dropped_frames(), 6u);
  ASSERT_NE(pending_.Match(Combine(3, 10, 5, 0)), nullptr);
  EXPECT_EQ(pending_.Match(Combine(3, 10, 5, 0)), nullptr) << "a second answer";
}

TEST_F(PendingCombinesTest, SilenceNamesWorkersAndLayer) {
  const LinkFault fault = pending_.Silent(std::chrono::milliseconds(250));
  EXPECT_EQ(fault.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(fault.status.message(), "workers 0, 2 did not answer layer 5 within 250 ms");
  EXPECT_FALSE(fault.certain);
}

TEST_F(PendingCombinesTest, RefusesABufferOfTheWrongSizeOrEpoch) {
  EXPECT_FALSE(
      pending_.Add({WorkerId(1), Dispatch(3, 10, 5), {}, std::span(first_).first(31)}).ok());
  EXPECT_FALSE(pending_.Add({WorkerId(1), Dispatch(4, 10, 5), {}, first_}).ok());
}

}  // namespace
}  // namespace sheaf
