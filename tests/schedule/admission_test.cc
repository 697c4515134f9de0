#include "router/schedule/queue/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/schedule/byte_tokenizer.h"
#include "tests/schedule/recording_sink.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Duration kSecond = std::chrono::seconds(1);

class AdmissionTest : public ::testing::Test {
 protected:
  std::unique_ptr<Sequence> NewSequence(uint64_t id, int tokens = 1,
                                        std::optional<TimePoint> deadline = std::nullopt,
                                        int max_tokens = 1) {
    GenerationRequest request;
    request.prompt = std::vector<TokenId>(static_cast<size_t>(tokens), 1);
    request.deadline = deadline;
    request.stop.max_tokens = max_tokens;
    request.stop.ignore_eos = true;
    return std::make_unique<Sequence>(
        SequenceId(id), std::move(request), std::make_shared<testing::RecordingSink>(),
        testing::ByteTokenizer(), nullptr, Sequence::Limits{{}, 100}, TimePoint{});
  }
  void Push(uint64_t id, int tokens = 1, std::optional<TimePoint> deadline = std::nullopt) {
    admission_.Push(NewSequence(id, tokens, deadline), id, now_);
  }
  uint64_t Take() {
    const SequenceId id = admission_.Peek(1, now_).at(0)->id();
    admission_.Take({&id, 1}, now_);
    admission_.Ended(id);
    return id.value();
  }
  std::vector<uint64_t> Front() {
    std::vector<uint64_t> ids;
    for (const Sequence* sequence : admission_.Peek(9, now_)) ids.push_back(sequence->id().value());
    return ids;
  }
  std::vector<QueuedSequence> View() {
    std::vector<QueuedSequence> front;
    for (const Sequence* sequence : admission_.Peek(9, now_)) {
      front.push_back({sequence->id(), sequence->total_tokens()});
    }
    return front;
  }
  // A hundred are taken in this rhythm; one waits in the end.
  void Work(Duration every) {
    for (int i = 0; i < 100; ++i) {
      while (admission_.size() < 2) Push(++last_);
      now_ += every;
      Take();
    }
    while (admission_.size() > 1) Take();
  }

  TimePoint now_{kSecond};
  uint64_t last_ = 1000;
  Admission admission_{{.max_queued = 3,
                        .max_queued_tokens = 20,
                        .max_model_len = 100,
                        .cache_tokens = 64,
                        .vocab_size = 278}};
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
    ASSERT_TRUE(admission_.CheckRoom(1, 1).ok());
    Push(id);
  }
  EXPECT_EQ(admission_.CheckRoom(1, 1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Take(), 1u);
  EXPECT_TRUE(admission_.CheckRoom(1, 1).ok());
  EXPECT_EQ(admission_.CheckRoom(2, 2).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(admission_.CheckRoom(4, 4).code(), absl::StatusCode::kInvalidArgument)
      << "more than ever wait together: coming again does not help";
  EXPECT_THAT(Front(), ElementsAre(2, 3));
}

TEST_F(AdmissionTest, TokensAreBoundedToo) {
  Push(1, 15);
  EXPECT_EQ(admission_.tokens(), 15);
  EXPECT_TRUE(admission_.CheckRoom(1, 5).ok());
  const absl::Status full = admission_.CheckRoom(1, 6);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()),
              HasSubstr("15 tokens wait, 6 more came, the limit is 20"));
  EXPECT_EQ(admission_.CheckRoom(1, 21).code(), absl::StatusCode::kInvalidArgument);
  Take();
  EXPECT_EQ(admission_.tokens(), 0);
  EXPECT_TRUE(admission_.CheckRoom(1, 20).ok());
}

TEST_F(AdmissionTest, APreemptedOneIsNext) {
  Push(1);
  Push(2);
  const SequenceId first(1);
  auto taken = admission_.Take({&first, 1}, now_);
  admission_.Return(std::move(taken[0]), FairOrder::ComesBack::kPreempted, now_);
  EXPECT_THAT(Front(), ElementsAre(1, 2));
}

TEST_F(AdmissionTest, TakesOutWhatTheConditionNamesAndKeepsTheOrder) {
  for (uint64_t id : {1, 2, 3}) Push(id);
  const auto taken = admission_.TakeIf([](const Sequence& s) { return s.id() != SequenceId(2); });
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0]->id(), SequenceId(1));
  EXPECT_EQ(taken[1]->id(), SequenceId(3));
  EXPECT_THAT(Front(), ElementsAre(2));
  EXPECT_EQ(admission_.Remove(SequenceId(1)), nullptr);
  EXPECT_NE(admission_.Remove(SequenceId(2)), nullptr);
  EXPECT_TRUE(admission_.empty());
}

TEST_F(AdmissionTest, HandsBackThoseWhoseDeadlineHasPassed) {
  Push(1, 1, now_ + 5 * kSecond);
  Push(2);
  Push(3, 1, now_ + 3 * kSecond);
  EXPECT_EQ(admission_.earliest_deadline(), now_ + 3 * kSecond);
  EXPECT_TRUE(admission_.TakeExpired(now_ + 2 * kSecond).empty());
  const auto expired = admission_.TakeExpired(now_ + 3 * kSecond);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0]->id(), SequenceId(3));
  EXPECT_EQ(admission_.TakeExpired(now_ + 9 * kSecond).size(), 1u);
  EXPECT_EQ(admission_.earliest_deadline(), TimePoint::max());
  EXPECT_THAT(Front(), ElementsAre(2));
}

// Whether a request with this deadline may still come.
absl::Status DeadlineCheck(const Admission& admission, std::unique_ptr<Sequence> sequence,
                           TimePoint now) {
  std::vector<std::unique_ptr<Sequence>> group;
  group.push_back(std::move(sequence));
  return admission.CheckDeadline(group, now);
}

TEST_F(AdmissionTest, RefusesWhatCannotEndInTime) {
  const auto check = [&](Duration left, int max_tokens = 1) {
    return DeadlineCheck(admission_, NewSequence(99, 1, now_ + left, max_tokens), now_);
  };
  EXPECT_TRUE(check(kSecond / 1000).ok()) << "nothing is measured";
  Work(kSecond);
  // One waits: at a taking a second that is a second, surely half of it.
  EXPECT_TRUE(check(kSecond).ok());
  const absl::Status late = check(kSecond / 4);
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.message()), HasSubstr("0.250 s away"));
  for (int i = 0; i < 20; ++i) admission_.estimate().StepRan(kSecond / 10, 0, 1);
  EXPECT_TRUE(check(2 * kSecond, 10).ok());
  EXPECT_FALSE(check(2 * kSecond, 90).ok()) << "ninety tokens at ten a second";
  EXPECT_TRUE(DeadlineCheck(admission_, NewSequence(99), now_).ok()) << "no deadline";
}

TEST_F(AdmissionTest, AtItsTurnWhatComesTooLateIsNotPrefilled) {
  for (int i = 0; i < 20; ++i) admission_.estimate().StepRan(kSecond, 10, 1);
  Push(1, 10, now_ + kSecond / 4);
  Push(2, 10, now_ + 2 * kSecond);
  Push(3, 10);
  const std::vector<QueuedSequence> front = View();
  const auto hopeless = admission_.TakeHopeless(front, now_);
  ASSERT_EQ(hopeless.size(), 1u);
  EXPECT_EQ(hopeless[0]->id(), SequenceId(1));
  EXPECT_THAT(Front(), ElementsAre(2, 3));
}

TEST_F(AdmissionTest, WhatTheCacheHasIsNotHeldAgainstIt) {
  for (int i = 0; i < 20; ++i) admission_.estimate().StepRan(kSecond, 10, 1);
  Push(1, 20, now_ + kSecond);
  std::vector<QueuedSequence> front = View();
  front[0].cached_tokens = 16;
  EXPECT_TRUE(admission_.TakeHopeless(front, now_).empty());
  front[0].cached_tokens = 0;
  EXPECT_EQ(admission_.TakeHopeless(front, now_).size(), 1u);
}

TEST_F(AdmissionTest, TheHintFollowsTheSpeedOfTheQueue) {
  EXPECT_EQ(admission_.RetryAfter(now_), kSecond) << "nothing is measured";
  Work(std::chrono::milliseconds(10));
  EXPECT_EQ(admission_.RetryAfter(now_), std::chrono::milliseconds(100)) << "at once, nearly";
  Work(10 * kSecond);
  while (admission_.size() < 3) Push(++last_);
  const Duration slow = admission_.RetryAfter(now_);
  EXPECT_GT(slow, 15 * kSecond) << "two of three places, 10 seconds each";
  EXPECT_LE(slow, 21 * kSecond);
  Work(10000 * kSecond);
  EXPECT_EQ(admission_.RetryAfter(now_), 60 * kSecond);
}

}  // namespace
}  // namespace sheaf
