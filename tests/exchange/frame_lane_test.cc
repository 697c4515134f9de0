// A lane delivers what was written, whatever its size, uses its memory again, and believes nothing
// that the other side writes.

#include "exchange/shared_memory/frame_lane.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "exchange/link/bell.h"
#include "exchange/link/doorbell.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

// Where the layout in the header says the first slot's offset and length are.
constexpr size_t kFirstOffsetAt = 128 + 64;
constexpr size_t kFirstBytesAt = 128 + 72;

FrameHeader HeaderOf(uint64_t step, size_t bytes) {
  FrameHeader header;
  header.kind = FrameKind::kDispatch;
  header.element = FrameElement::kInt16Groups;
  header.answer = FrameElement::kFloat32;
  header.sequence = step + 1;
  header.step = StepId(step);
  header.payload_bytes = bytes;
  return header;
}

std::vector<uint8_t> RandomBytes(std::mt19937_64& random, size_t count) {
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

class FrameLaneTest : public testing::Test {
 protected:
  void SetUp() override {
    auto writer = LaneWriter::Create();
    ASSERT_TRUE(writer.ok()) << writer.status();
    writer_ = *std::move(writer);
    auto reader = LaneReader::Map(UniqueFd(dup(writer_.fd())));
    ASSERT_TRUE(reader.ok()) << reader.status();
    reader_ = *std::move(reader);
  }

  void Write(uint64_t step, const std::vector<uint8_t>& bytes, uint64_t released) {
    auto to = writer_.Reserve(bytes.size(), released);
    ASSERT_TRUE(to.ok()) << to.status();
    ASSERT_EQ(to->size(), bytes.size());
    std::copy(bytes.begin(), bytes.end(), to->begin());
    writer_.Publish(HeaderOf(step, bytes.size()));
  }

  // The writer's memory as a peer that means harm would see it.
  uint64_t* Word(size_t at) {
    void* map =
        mmap(nullptr, kLaneControlBytes, PROT_READ | PROT_WRITE, MAP_SHARED, writer_.fd(), 0);
    return reinterpret_cast<uint64_t*>(static_cast<uint8_t*>(map) + at);
  }

  const uint64_t seed_ = TestSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  LaneWriter writer_;
  LaneReader reader_;
};

TEST_F(FrameLaneTest, DeliversEverySizeInOrderAndGrows) {
  std::vector<std::vector<uint8_t>> sent;
  for (const size_t bytes : {0u, 1u, 63u, 64u, 4096u, 300'000u, 5'000'000u, 17u}) {
    sent.push_back(RandomBytes(random_, bytes));
    ASSERT_NO_FATAL_FAILURE(Write(sent.size(), sent.back(), 0));
  }
  for (size_t i = 0; i < sent.size(); ++i) {
    const auto frame = reader_.Next();
    ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
    EXPECT_EQ(std::vector<uint8_t>((*frame)->payload.begin(), (*frame)->payload.end()), sent[i]);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*frame)->payload.data()) % 64, 0u);
  }
  const auto none = reader_.Next();
  EXPECT_TRUE(none.ok() && !none->has_value());
}

TEST_F(FrameLaneTest, ReleasedMemoryIsUsedAgain) {
  const std::vector<uint8_t> bytes = RandomBytes(random_, 10'400);
  const uint8_t* first = nullptr;
  for (uint64_t step = 0; step < 500; ++step) {
    const auto to = writer_.Reserve(bytes.size(), step);
    ASSERT_TRUE(to.ok());
    if (step == 0) first = to->data();
    EXPECT_EQ(to->data(), first) << "step " << step;
    writer_.Publish(HeaderOf(step, bytes.size()));
    ASSERT_TRUE(reader_.Next().ok());
    reader_.Release();
  }
}

// Never empty: the reader is always some frames behind. What is read is what was written, and the
// memory stays what a few frames need.
TEST_F(FrameLaneTest, ALaneThatIsNeverEmptyDoesNotGrowForEver) {
  SCOPED_TRACE(seed_);
  constexpr size_t kBehind = 5;
  constexpr size_t kLargest = 100'000;
  std::vector<std::vector<uint8_t>> sent;
  uint64_t released = 0;
  for (uint64_t step = 0; step < 20'000; ++step) {
    sent.push_back(RandomBytes(random_, 0));
    sent.back().assign(random_() % kLargest, static_cast<uint8_t>(random_()));
    ASSERT_NO_FATAL_FAILURE(Write(step, sent.back(), released));
    if (step < kBehind) continue;
    // The frame is whole although five later ones have been written.
    const auto frame = reader_.Next();
    ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
    const std::vector<uint8_t>& wanted = sent[step - kBehind];
    ASSERT_EQ((*frame)->payload.size(), wanted.size());
    ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), (*frame)->payload.begin())) << step;
    released = reader_.Release();
    sent[step - kBehind].clear();
    sent[step - kBehind].shrink_to_fit();
  }
  EXPECT_LT(writer_.memory_bytes(), 4 * (kBehind + 1) * kLargest);
}

TEST_F(FrameLaneTest, WhatIsUnreadIsNeverOverwritten) {
  for (uint64_t step = 0; step < kLaneSlots; ++step) {
    ASSERT_NO_FATAL_FAILURE(Write(step, RandomBytes(random_, 8), 0));
  }
  EXPECT_EQ(writer_.Reserve(8, 0).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(writer_.Reserve(8, 1).ok());
  // Counts that go back, or are ahead of what was written, are nonsense.
  EXPECT_EQ(writer_.Reserve(8, 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(writer_.Reserve(8, kLaneSlots + 1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(FrameLaneTest, BytesUnderWayAreBounded) {
  auto writer = LaneWriter::Create(1'000'000);
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(writer->Reserve(1'000'001, 0).status().code(), absl::StatusCode::kResourceExhausted);
  for (uint64_t step = 0; step < 3; ++step) {
    ASSERT_TRUE(writer->Reserve(300'000, 0).ok());
    writer->Publish(HeaderOf(step, 300'000));
  }
  EXPECT_EQ(writer->Reserve(300'000, 0).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(writer->Reserve(90'000, 0).ok());
  EXPECT_TRUE(writer->Reserve(300'000, 1).ok());  // the first one's place
}

TEST_F(FrameLaneTest, AFrameOutsideTheFileIsAnError) {
  ASSERT_NO_FATAL_FAILURE(Write(1, RandomBytes(random_, 100), 0));
  uint64_t* offset = Word(kFirstOffsetAt);
  uint64_t* bytes = Word(kFirstBytesAt);
  const uint64_t good_offset = *offset, good_bytes = *bytes;
  for (const auto& [bad_offset, bad_bytes] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0, 100},                // in the control part
                                                  {good_offset + 1, 100},  // not aligned
                                                  {good_offset, uint64_t{1} << 33},  // past the end
                                                  {uint64_t{1} << 62, 64},
                                                  {good_offset, ~uint64_t{0}}}) {
    *offset = bad_offset;
    *bytes = bad_bytes;
    EXPECT_EQ(reader_.Next().status().code(), absl::StatusCode::kInvalidArgument)
        << bad_offset << " + " << bad_bytes;
  }
  *offset = good_offset;
  *bytes = good_bytes;
  EXPECT_TRUE(reader_.Next().ok());
}

TEST_F(FrameLaneTest, AWildCountIsAnError) {
  ASSERT_NO_FATAL_FAILURE(Write(1, RandomBytes(random_, 100), 0));
  ASSERT_NO_FATAL_FAILURE(Write(2, RandomBytes(random_, 100), 0));
  ASSERT_TRUE(reader_.Next().ok());
  uint64_t* published = Word(0);
  for (const uint64_t wild : {uint64_t{0}, uint64_t{kLaneSlots} + 1, ~uint64_t{0}}) {
    *published = wild;
    EXPECT_EQ(reader_.Next().status().code(), absl::StatusCode::kInvalidArgument) << wild;
  }
  *published = 2;
  EXPECT_TRUE(reader_.Next().ok());
}

TEST_F(FrameLaneTest, OnlyMemoryThatCannotShrinkIsMapped) {
  UniqueFd unsealed(memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(unsealed.get(), 1 << 20), 0);
  EXPECT_EQ(LaneReader::Map(std::move(unsealed)).status().code(),
            absl::StatusCode::kInvalidArgument);
  UniqueFd small(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(small.get(), 64), 0);
  ASSERT_EQ(fcntl(small.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  EXPECT_EQ(LaneReader::Map(std::move(small)).status().code(), absl::StatusCode::kInvalidArgument);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(LaneReader::Map(UniqueFd(ends[0])).status().code(), absl::StatusCode::kInvalidArgument);
  close(ends[1]);
}

// Two threads stand for two processes: 100 000 frames there and back, without one lost wake-up.
TEST_F(FrameLaneTest, ADoorbellNeverLosesAWakeUp) {
  constexpr uint64_t kRounds = 100'000;
  const TimePoint patience = std::chrono::steady_clock::now() + std::chrono::minutes(5);
  alignas(64) uint8_t reader_page[kDoorbellBytes] = {}, writer_page[kDoorbellBytes] = {};
  std::atomic<uint64_t> echoed{0};
  std::thread echo([&] {
    Doorbell mine(reader_page), other(writer_page);
    while (echoed.load() < kRounds) {
      const uint32_t seen = mine.rings();
      const auto frame = reader_.Next();
      if (!frame.ok()) return;
      if (!frame->has_value()) {
        if (std::chrono::steady_clock::now() > patience) return;
        mine.WaitPast(seen, patience);
        continue;
      }
      reader_.Release();
      echoed.fetch_add(1);
      other.Ring();
    }
  });
  Doorbell mine(writer_page), other(reader_page);
  uint64_t sent = 0;
  for (; sent < kRounds; ++sent) {
    if (!writer_.Reserve(8, sent).ok()) break;
    writer_.Publish(HeaderOf(sent, 8));
    other.Ring();
    for (;;) {
      const uint32_t seen = mine.rings();
      if (echoed.load() == sent + 1 || std::chrono::steady_clock::now() > patience) break;
      mine.WaitPast(seen, patience);
    }
  }
  echo.join();
  EXPECT_EQ(echoed.load(), kRounds);
}

// Threads stand for processes that sleep at bells of their own; one call wakes all of them, an odd
// one too, whatever their counts are, and nobody else.
TEST(Doorbells, WakeAllThatSleep) {
  constexpr int kSleepers = 5;
  constexpr int kRounds = 2'000;
  const TimePoint patience = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  alignas(64) uint8_t pages[kSleepers][kDoorbellBytes] = {};
  // Counts around which a comparison of 12 bits with a sign could go wrong.
  const uint32_t starts[kSleepers] = {0, 0x7ff - kRounds / 2, 0xfffff800u - kRounds / 2,
                                      0xffffffffu - kRounds / 2, 0x7fffffffu - kRounds / 2};
  for (int i = 0; i < kSleepers; ++i) std::memcpy(pages[i], &starts[i], sizeof(starts[i]));
  std::atomic<int> woken{0};
  std::atomic<bool> failed{false};
  std::vector<std::thread> sleepers;
  for (int i = 0; i < kSleepers; ++i) {
    sleepers.emplace_back([&, i] {
      Doorbell mine(pages[i]);
      for (uint32_t round = 0; round < kRounds; ++round) {
        while (mine.rings() == starts[i] + round && std::chrono::steady_clock::now() < patience)
          mine.WaitPast(starts[i] + round, patience);
        if (mine.rings() != starts[i] + round + 1) failed = true;
        woken.fetch_add(1);
      }
    });
  }
  Doorbells bells;
  for (int round = 0; round < kRounds; ++round) {
    for (auto& page : pages) bells.Add(Doorbell(page));
    bells.Ring();
    while (woken.load() < (round + 1) * kSleepers && std::chrono::steady_clock::now() < patience)
      std::this_thread::yield();
  }
  for (std::thread& sleeper : sleepers) sleeper.join();
  EXPECT_EQ(woken.load(), kRounds * kSleepers);
  EXPECT_FALSE(failed);
}

TEST(Doorbell, LookingEndsWithARingOrTheTime) {
  alignas(64) uint8_t page[kDoorbellBytes] = {};
  Doorbell bell(page);
  const uint32_t before = bell.rings();
  const TimePoint start = std::chrono::steady_clock::now();
  EXPECT_FALSE(bell.LookPast(before, std::chrono::milliseconds(5)));
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(5));
  EXPECT_FALSE(bell.LookPast(before, Duration{0}));
  bell.Ring();
  EXPECT_TRUE(bell.LookPast(before, Duration{0}));
  EXPECT_TRUE(bell.LookPast(before, std::chrono::hours(1)));
}

TEST(Bell, LooksWhereRingsCameSoonLately) {
  using std::chrono::milliseconds;
  const std::unique_ptr<Bell> bell = *Bell::Create();
  const auto looks_for = [&](Duration time) {
    const TimePoint start = std::chrono::steady_clock::now();
    EXPECT_FALSE(bell->LookPast(bell->rings(), time));
    return std::chrono::steady_clock::now() - start >= time;
  };
  EXPECT_TRUE(looks_for(milliseconds(1)));
  // a long wait
  bell->WaitPast(bell->rings(), std::chrono::steady_clock::now() + milliseconds(20));
  EXPECT_FALSE(looks_for(std::chrono::hours(1)));
  // A brief one beside an hour, though slept through.
  const uint32_t seen = bell->rings();
  EXPECT_FALSE(bell->LookPast(seen, std::chrono::hours(1)));
  bell->Ring();
  bell->WaitPast(seen, TimePoint::max());
  EXPECT_TRUE(looks_for(milliseconds(1)));
}

TEST(Doorbell, WaitEndsAtTheDeadline) {
  alignas(64) uint8_t page[kDoorbellBytes] = {};
  Doorbell bell(page);
  const TimePoint start = std::chrono::steady_clock::now();
  bell.WaitPast(bell.rings(), start + std::chrono::milliseconds(20));
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(20));
  const uint32_t before = bell.rings();
  bell.Ring();
  bell.WaitPast(before, TimePoint::max());  // returns: it has rung since
  EXPECT_EQ(bell.rings(), before + 1);
}

}  // namespace
}  // namespace sheaf
