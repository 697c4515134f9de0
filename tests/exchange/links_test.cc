// What every byte mover promises: frames arrive whole and in order or not at all, a full link says
// so and stays good, a peer that went is seen after what it sent, and only the right hello makes a
// link.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/exchange/link_rig.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

class LinksTest : public testing::TestWithParam<Mover> {};

TEST_P(LinksTest, FramesOfEverySizeArriveWholeInOrderAndAligned) {
  LinkRig rig(GetParam());
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  EXPECT_EQ(router->id(), worker->id());
  uint64_t sequence = 0;
  for (const size_t bytes : {0u, 1u, 63u, 64u, 4096u, 65'536u, 65'537u, 300'000u, 5'000'001u,
                             64u << 20, 17u, 0u}) {
    ASSERT_TRUE(SendPattern(*router, ++sequence, bytes).ok());
  }
  for (uint64_t expected = 1; expected <= sequence; ++expected) {
    const auto frame = WaitNext(*worker, rig.worker_bell(), In(kPatience));
    ASSERT_TRUE(frame.ok()) << frame.status();
    ASSERT_TRUE(frame->has_value());
    EXPECT_EQ((*frame)->header.sequence, expected);
    EXPECT_EQ((*frame)->header.link, router->id());
    EXPECT_TRUE(IsPattern(**frame)) << expected;
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*frame)->payload.data()) % 64, 0u);
  }
  worker->Release();
  const auto none = worker->Next();
  EXPECT_TRUE(none.ok() && !none->has_value());
}

// What Next gave stays as it is while more arrives, until Release.
TEST_P(LinksTest, ArrivedPayloadsStayUntilRelease) {
  LinkRig rig(GetParam());
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  std::vector<ArrivedFrame> frames;
  for (uint64_t sequence = 1; sequence <= 40; ++sequence) {
    ASSERT_TRUE(SendPattern(*router, sequence, 20'000 * sequence).ok());
    const auto frame = WaitNext(*worker, rig.worker_bell(), In(kPatience));
    ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
    frames.push_back(**frame);
  }
  for (const ArrivedFrame& frame : frames) EXPECT_TRUE(IsPattern(frame)) << frame.header.sequence;
}

TEST_P(LinksTest, BothEndsSendAtOnce) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  LinkRig rig(GetParam());
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  constexpr uint64_t kFrames = 2000;
  const auto talk = [seed](FrameLink& link, Bell& bell, uint64_t salt) -> std::string {
    std::mt19937_64 random(seed ^ salt);
    uint64_t sent = 0, got = 0;
    const TimePoint until = In(kPatience);
    while (sent < kFrames || got < kFrames) {
      const uint32_t seen = bell.rings();
      bool moved = false;
      if (sent < kFrames) {
        const size_t bytes = random() % 8 == 0 ? random() % 200'000 : random() % 12'000;
        const absl::Status status = SendPattern(link, sent + 1, bytes);
        if (status.ok()) ++sent;
        if (!status.ok() && !absl::IsResourceExhausted(status)) return status.ToString();
        moved = status.ok();
      }
      for (;;) {
        const auto frame = link.Next();
        if (!frame.ok()) return frame.status().ToString();
        if (!frame->has_value()) break;
        if ((*frame)->header.sequence != ++got) return "out of order";
        if (!IsPattern(**frame)) return "wrong bytes";
        moved = true;
      }
      link.Release();
      if (std::chrono::steady_clock::now() >= until) return "no end";
      // A full link does not ring when it has room again: look again soon.
      if (!moved) bell.WaitPast(seen, In(std::chrono::milliseconds(1)));
    }
    return "";
  };
  std::string of_worker;
  std::thread other([&] { of_worker = talk(*worker, rig.worker_bell(), 1); });
  const std::string of_router = talk(*router, rig.router_bell(), 2);
  other.join();
  EXPECT_EQ(of_router, "");
  EXPECT_EQ(of_worker, "");
}

TEST_P(LinksTest, WhatWasSentBeforeTheEndIsStillRead) {
  LinkRig rig(GetParam());
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  for (uint64_t sequence = 1; sequence <= 3; ++sequence)
    ASSERT_TRUE(SendPattern(*worker, sequence, 10'000).ok());
  worker = nullptr;
  for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
    const auto frame = WaitNext(*router, rig.router_bell(), In(kPatience));
    ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
    EXPECT_EQ((*frame)->header.sequence, sequence);
    EXPECT_TRUE(IsPattern(**frame));
  }
  const auto end = WaitNext(*router, rig.router_bell(), In(kPatience));
  EXPECT_EQ(end.status().code(), absl::StatusCode::kUnavailable) << end.status();
  EXPECT_EQ(router->Next().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(router->Reserve(8).status().code(), absl::StatusCode::kUnavailable);
}

TEST_P(LinksTest, APeerThatGoesRingsTheBell) {
  LinkRig rig(GetParam());
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  router = nullptr;
  const auto end = WaitNext(*worker, rig.worker_bell(), In(kPatience));
  EXPECT_EQ(end.status().code(), absl::StatusCode::kUnavailable) << end.status();
}

TEST_P(LinksTest, AFullLinkSaysSoAndStaysGood) {
  constexpr size_t kBytes = 200'000;
  LinkRig rig(GetParam(), {}, 4u << 20);
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  uint64_t sent = 0;
  absl::Status status;
  while (sent < 10'000 && (status = SendPattern(*router, sent + 1, kBytes)).ok()) ++sent;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_GE(sent, 4u);
  uint64_t got = 0;
  while (got < sent) {
    const auto frame = WaitNext(*worker, rig.worker_bell(), In(kPatience));
    ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status() << " after " << got;
    ASSERT_EQ((*frame)->header.sequence, ++got);
    ASSERT_TRUE(IsPattern(**frame));
    worker->Release();
  }
  EXPECT_TRUE(SendPattern(*router, sent + 1, kBytes).ok());
  const auto frame = WaitNext(*worker, rig.worker_bell(), In(kPatience));
  ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
  EXPECT_EQ((*frame)->header.sequence, sent + 1);
}

TEST_P(LinksTest, OnlyTheRightHelloMakesALink) {
  LinkRig rig(GetParam());
  LinkRequest other_model = rig.GoodRequest(), other_instance = rig.GoodRequest(),
              other_key = rig.GoodRequest(), other_router = rig.GoodRequest();
  other_model.model_digest ^= 1;
  other_instance.worker = InstanceId(4);
  other_key.key.bytes[31] ^= 1;
  other_router.router = InstanceId(7);  // whose key it does not have
  const absl::Status model = rig.Connect(other_model).status();
  EXPECT_EQ(model.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(model.message()), HasSubstr("another checkpoint"));
  const absl::Status instance = rig.Connect(other_instance).status();
  EXPECT_EQ(instance.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(instance.message()), HasSubstr("another process"));
  for (const LinkRequest& request : {other_key, other_router}) {
    const absl::Status wrong = rig.Connect(request).status();
    EXPECT_EQ(wrong.code(), absl::StatusCode::kUnauthenticated);
    EXPECT_THAT(std::string(wrong.message()), HasSubstr("refused the key"));
  }
  const auto pair = rig.NewPair();
  EXPECT_TRUE(pair.router && pair.worker);
}

TEST_P(LinksTest, AWorkerTakesSoManyLinksAndNoMore) {
  LinkListenerOptions options;
  options.max_links = 2;
  LinkRig rig(GetParam(), options);
  auto first = rig.NewPair();
  auto second = rig.NewPair();
  const absl::Status busy = rig.Connect(rig.GoodRequest()).status();
  EXPECT_EQ(busy.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(busy.message()), HasSubstr("no room"));
  first = {};
  const auto third = rig.NewPair();
  EXPECT_TRUE(third.router && third.worker);
}

TEST_P(LinksTest, ManyLinksDoNotMixUp) {
  constexpr size_t kLinks = 40;
  LinkRig rig(GetParam());
  std::vector<LinkRig::Pair> pairs;
  for (size_t i = 0; i < kLinks; ++i) {
    pairs.push_back(rig.NewPair());
    ASSERT_TRUE(pairs.back().router && pairs.back().worker);
  }
  for (size_t i = 0; i < kLinks; ++i) {
    ASSERT_TRUE(SendPattern(*pairs[i].router, i + 1, 1000 * i).ok());
    ASSERT_TRUE(SendPattern(*pairs[i].worker, i + 100, 500 * i).ok());
  }
  pairs[7].router = nullptr;  // one end of one link concerns nobody else
  for (size_t i = 0; i < kLinks; ++i) {
    const auto down = WaitNext(*pairs[i].worker, rig.worker_bell(), In(kPatience));
    ASSERT_TRUE(down.ok() && down->has_value()) << down.status();
    EXPECT_EQ((*down)->header.sequence, i + 1);
    EXPECT_TRUE(IsPattern(**down));
    if (i == 7) continue;
    const auto up = WaitNext(*pairs[i].router, rig.router_bell(), In(kPatience));
    ASSERT_TRUE(up.ok() && up->has_value()) << up.status();
    EXPECT_EQ((*up)->header.sequence, i + 100);
    EXPECT_TRUE(IsPattern(**up));
  }
}

TEST_P(LinksTest, LinksGoOnWithoutTheirListener) {
  LinkRig rig(GetParam());
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  rig.StopListening();
  ASSERT_TRUE(SendPattern(*router, 1, 5000).ok());
  const auto frame = WaitNext(*worker, rig.worker_bell(), In(kPatience));
  ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
  const absl::Status nobody = rig.Connect(rig.GoodRequest()).status();
  EXPECT_EQ(nobody.code(), absl::StatusCode::kUnavailable) << nobody;
  EXPECT_THAT(std::string(nobody.message()), HasSubstr(rig.addresses()[0]));
}

TEST_P(LinksTest, NoTransportInCommonNamesBothSides) {
  LinkRig rig(GetParam());
  const absl::Status status =
      rig.connector()
          .Connect({"pigeon:7", "shm:elsewhere:0123456789abcdef0123456789abcdef\nforged"},
                   rig.GoodRequest(), rig.router_bell(), In(kPatience))
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr("pigeon:7"));
  EXPECT_THAT(text, HasSubstr(rig.connector().reach()));
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Movers, LinksTest,
                         testing::Values(Mover::kInProcess, Mover::kSharedMemory, Mover::kTcp,
                                         Mover::kReach),
                         [](const auto& mover) { return NameOf(mover.param); });

// --- The tap of links in one process.

TEST(InProcessLinks, ATapDropsHoldsAndCorrupts) {
  LinkRig rig(Mover::kInProcess);
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  rig.network().SetTap([](PassingFrame& frame) {
    const auto header = DecodeFrameHeader(frame.header);
    if (header->sequence == 1) return TapVerdict::kDrop;
    if (header->sequence == 2) return TapVerdict::kHold;
    if (header->sequence == 3) frame.payload[0] ^= 1;
    if (header->sequence == 5) frame.header[8] ^= 1;  // of another link
    if (header->sequence == 6) frame.header[0] ^= 1;
    return TapVerdict::kPass;
  });
  for (uint64_t sequence = 1; sequence <= 5; ++sequence)
    ASSERT_TRUE(SendPattern(*router, sequence, 10).ok());
  const auto next = [&] { return worker->Next(); };
  auto frame = next();
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_EQ((*frame)->header.sequence, 3u);
  EXPECT_FALSE(IsPattern(**frame));
  frame = next();
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_EQ((*frame)->header.sequence, 4u);
  frame = next();
  EXPECT_TRUE(frame.ok() && !frame->has_value());  // 5 is void
  rig.network().DeliverHeld();
  frame = next();
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_EQ((*frame)->header.sequence, 2u);
  ASSERT_TRUE(SendPattern(*router, 6, 10).ok());
  EXPECT_EQ(next().status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(router->Next().status().code(), absl::StatusCode::kUnavailable);
}

TEST(InProcessLinks, ACutBreaksBothEnds) {
  LinkRig rig(Mover::kInProcess);
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  EXPECT_THAT(rig.network().links(), testing::ElementsAre(router->id()));
  rig.network().Cut(router->id());
  EXPECT_EQ(router->Next().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(worker->Next().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(rig.network().links(), testing::IsEmpty());
  rig.network().SetReachable(rig.addresses()[0], false);
  EXPECT_EQ(rig.Connect(rig.GoodRequest()).status().code(), absl::StatusCode::kUnavailable);
  rig.network().SetReachable(rig.addresses()[0], true);
  EXPECT_TRUE(rig.NewPair().worker != nullptr);
}

}  // namespace
}  // namespace sheaf
