// Who is wrong when answers differ.

#include "exchange/pool/answer_comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(AnswerComparison, ComparesBitsNotValues) {
  const float zero = 0.0f, minus = -0.0f;
  EXPECT_FALSE(SameBits({&zero, 1}, {&minus, 1}));
  EXPECT_TRUE(SameBits({&zero, 1}, {&zero, 1}));
  EXPECT_FALSE(SameBits({&zero, 1}, {}));
}

TEST(AnswerComparison, TwoOfThreeAreRight) {
  const Dispute dispute{ExpertId(3), {0, 5}, {{WorkerId(4), {1, 2}},
                                              {WorkerId(7), {1, 3}},
                                              {WorkerId(9), {1, 3}}}};
  const Judgement judgement = JudgeByMajority(dispute);
  EXPECT_TRUE(judgement.decided);
  EXPECT_THAT(judgement.wrong, ElementsAre(WorkerId(4)));
  EXPECT_THAT(judgement.right, ElementsAre(1, 3));
}

TEST(AnswerComparison, WhenAllDifferTheReferenceDecides) {
  const Dispute dispute{ExpertId(3), {0}, {{WorkerId(4), {1}}, {WorkerId(7), {2}}}};
  EXPECT_FALSE(JudgeByMajority(dispute).decided);
  EXPECT_THAT(JudgeByReference(dispute, {2}).wrong, ElementsAre(WorkerId(4)));
  EXPECT_THAT(JudgeByReference(dispute, {1}).wrong, ElementsAre(WorkerId(7)));
  EXPECT_THAT(JudgeByReference(dispute, {5}).wrong, ElementsAre(WorkerId(4), WorkerId(7)));
}

}  // namespace
}  // namespace sheaf
