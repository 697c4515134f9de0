#include "router/schedule/queue/admission.h"

#include <gtest/gtest.h>

#include "tests/schedule/byte_tokenizer.h"
#include "tests/schedule/recording_sink.h"

namespace sheaf {
namespace {

constexpr std::chrono::seconds kSecond{1};

class AdmissionTest : public ::testing::Test {
 protected:
  std::unique_ptr<Sequence> NewSequence(uint64_t id) {
    GenerationRequest request;
    request.prompt = {1};
    return std::make_unique<Sequence>(
        SequenceId(id), std::move(request), std::make_shared<testing::RecordingSink>(),
        testing::ByteTokenizer(), nullptr, Sequence::Limits{{}, 100}, TimePoint{});
  }

  Admission admission_{
      {.max_queued = 3, .max_model_len = 100, .cache_tokens = 64, .vocab_size = 278}};
};

absl::Status Fits(std::vector<TokenId> prompt, int max_tokens, int max_model_len = 100,
                  int cache = 64) {
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.stop.max_tokens = max_tokens;
  return Admission::CheckFits(
      request,
      {.max_queued = 3, .max_model_len = max_model_len, .cache_tokens = cache, .vocab_size = 278});
}

TEST_F(AdmissionTest, RefusesWhatCanNeverRun) {
  const auto prompt = [](int length) { return std::vector<TokenId>(length, 7); };
  EXPECT_TRUE(Fits(prompt(1), 1).ok());
  EXPECT_TRUE(Fits(prompt(60), 5).ok()) << "the last token needs no place in the cache";
  for (const absl::Status& status :
       {Fits({}, 1), Fits(prompt(60), 6), Fits(prompt(100), 1, 100, 1000), Fits({1, -1}, 1),
        Fits({278}, 1)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
  EXPECT_TRUE(Fits(prompt(60), 1 << 30, 65).ok()) << "generation ends at max_model_len, which fits";
  const absl::Status both = Fits(prompt(60), 6);
  EXPECT_NE(both.message().find("65"), absl::string_view::npos) << both;
  EXPECT_NE(both.message().find("64"), absl::string_view::npos) << both;
}

TEST_F(AdmissionTest, IsBoundedAndFirstInFirstOut) {
  for (uint64_t id : {1, 2, 3}) {
    ASSERT_TRUE(admission_.CheckRoom(1).ok());
    admission_.Push(NewSequence(id));
  }
  EXPECT_EQ(admission_.CheckRoom(1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(admission_.Take(SequenceId(1), TimePoint{})->id(), SequenceId(1));
  EXPECT_TRUE(admission_.CheckRoom(1).ok());
  EXPECT_EQ(admission_.CheckRoom(2).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(admission_.CheckRoom(4).code(), absl::StatusCode::kInvalidArgument)
      << "more than ever wait together: coming again does not help";
  admission_.Return(NewSequence(9));
  EXPECT_EQ(admission_.at(0).id(), SequenceId(9)) << "a preempted one is next";
  EXPECT_EQ(admission_.at(1).id(), SequenceId(2));
}

TEST_F(AdmissionTest, TakesOutWhatTheConditionNamesAndKeepsTheOrder) {
  for (uint64_t id : {1, 2, 3}) admission_.Push(NewSequence(id));
  const auto taken = admission_.TakeIf([](const Sequence& s) { return s.id() != SequenceId(2); });
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0]->id(), SequenceId(1));
  EXPECT_EQ(taken[1]->id(), SequenceId(3));
  ASSERT_EQ(admission_.size(), 1);
  EXPECT_EQ(admission_.at(0).id(), SequenceId(2));
}

TEST_F(AdmissionTest, TheHintFollowsTheSpeedOfTheQueue) {
  EXPECT_GE(admission_.RetryAfter(), kSecond);
  TimePoint now{kSecond};
  uint64_t id = 0;
  const auto move_on = [&](Duration interval) {
    for (int i = 0; i < 100; ++i) {
      while (admission_.size() < 3) admission_.Push(NewSequence(++id));
      now += interval;
      admission_.Take(admission_.at(0).id(), now);
    }
    while (admission_.size() < 3) admission_.Push(NewSequence(++id));
    return admission_.RetryAfter();
  };
  EXPECT_EQ(move_on(std::chrono::milliseconds(10)), kSecond);
  const Duration slow = move_on(10 * kSecond);
  EXPECT_GT(slow, 15 * kSecond) << "two of three places, 10 seconds each";
  EXPECT_LE(slow, 20 * kSecond);
  EXPECT_EQ(move_on(10000 * kSecond), 60 * kSecond);
}

}  // namespace
}  // namespace sheaf
