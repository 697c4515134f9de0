// A worker's answer has the bits of the reference, in the dispatch's order; what it cannot do, it
// says.

#include "worker/expert_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "exchange/byte_buffer.h"
#include "tests/exchange/random_experts.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

constexpr int kHidden = 256;

class ExpertRunnerTest : public testing::Test {
 protected:
  // The dispatch that worker 1 of 2 gets.
  ReceivedDispatch Dispatch(const RoutedBatch& batch) {
    EXPECT_TRUE(PlanDispatch({batch.layer, batch.x.num_rows, batch.top_k, batch.expert_ids},
                             ContiguousPlacement(2, 6, 2), {}, plan_)
                    .ok());
    const WorkerPlan& work = plan_.workers().back();
    header_.layer = batch.layer;
    payload_.Resize(DispatchBytes(work, batch.x.k));
    EncodeDispatch(pool_, work, batch.x, header_, payload_.data());
    return {header_, payload_.bytes()};
  }
  Answer Run(const ReceivedDispatch& dispatch) {
    const absl::StatusOr<Answer> answer = runner_.Run(dispatch, [this](size_t bytes) {
      reply_.Resize(bytes);
      return absl::StatusOr<std::span<uint8_t>>(reply_.bytes());
    });
    EXPECT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->header.payload_bytes, reply_.size());
    return *answer;
  }
  std::string Text() const { return std::string(reply_.bytes().begin(), reply_.bytes().end()); }

  const uint64_t seed_ = TestSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  RandomExperts experts_{seed_, 2, 6, kHidden, 128};
  ThreadPool pool_{2};
  ExpertRunner runner_{experts_, pool_, WorkerId(1)};
  DispatchPlan plan_;
  FrameHeader header_;
  ByteBuffer payload_;
  ByteBuffer reply_;
};

TEST_F(ExpertRunnerTest, OneVectorAPairInTheDispatchsOrder) {
  for (const int tokens : {1, 9, 70}) {
    const RandomBatch given(random_, LayerId(1), tokens, kHidden, 6, 6);
    const RoutedBatch batch = given.At(3);
    const Answer answer = Run(Dispatch(batch));
    ASSERT_TRUE(answer.ok) << Text();
    EXPECT_EQ(answer.header.kind, FrameKind::kCombine);
    EXPECT_EQ(answer.header.source, 1);
    const WorkerPlan& work = plan_.workers().back();
    ASSERT_EQ(reply_.size(), sizeof(float) * kHidden * work.rows.size());
    std::vector<float> want(kHidden);
    for (size_t pair = 0; pair < work.slots.size(); ++pair) {
      const int32_t token = work.slots[pair] / 6;
      const int32_t expert = batch.expert_ids[work.slots[pair]];
      kernels::ref::RunExpert(batch.x, {experts_.Find(LayerId(1), ExpertId(expert)),
                                        std::span(&token, 1), want.data()});
      ASSERT_EQ(0, std::memcmp(want.data(), reply_.data() + pair * sizeof(float) * kHidden,
                               sizeof(float) * kHidden))
          << "pair " << pair;
    }
  }
}

TEST_F(ExpertRunnerTest, AnExpertThatIsNotHereIsAnErrorAndTheWorkerGoesOn) {
  const RandomBatch given(random_, LayerId(1), 2, kHidden, 6, 6);
  ReceivedDispatch dispatch = Dispatch(given.At(1));
  dispatch.header.layer = LayerId(9);
  Answer answer = Run(dispatch);
  EXPECT_FALSE(answer.ok);
  EXPECT_EQ(answer.header.kind, FrameKind::kError);
  EXPECT_THAT(Text(), testing::HasSubstr("layer 9, expert 3 is not in worker 1's slice"));
  EXPECT_TRUE(Run(Dispatch(given.At(2))).ok);
}

TEST_F(ExpertRunnerTest, RowsOfAnotherModelAreAnError) {
  const RandomBatch given(random_, LayerId(1), 2, 2 * kHidden, 6, 6);
  const Answer answer = Run(Dispatch(given.At(1)));
  EXPECT_FALSE(answer.ok);
  EXPECT_THAT(Text(), testing::HasSubstr("hidden size: wanted 256, got 512"));
}

TEST_F(ExpertRunnerTest, WithoutMemoryForTheAnswerItSaysSo) {
  const RandomBatch given(random_, LayerId(1), 2, kHidden, 6, 6);
  const auto none = [](size_t) -> absl::StatusOr<std::span<uint8_t>> {
    return absl::ResourceExhaustedError("no memory");
  };
  EXPECT_EQ(runner_.Run(Dispatch(given.At(1)), none).status().message(), "no memory");
}

TEST_F(ExpertRunnerTest, AMalformedDispatchIsAnError) {
  const RandomBatch given(random_, LayerId(1), 2, kHidden, 6, 6);
  ReceivedDispatch dispatch = Dispatch(given.At(1));
  dispatch.payload = dispatch.payload.first(dispatch.payload.size() - 4);
  const Answer answer = Run(dispatch);
  EXPECT_FALSE(answer.ok);
  EXPECT_THAT(Text(), testing::HasSubstr("payload bytes"));
}

}  // namespace
}  // namespace sheaf
