// TCP links whose frames have tags: what is not as its sender sent it, when and where, is seen by
// nobody and ends the link, in both directions.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <functional>
#include <thread>

#include "exchange/tcp/tcp_address.h"
#include "exchange/tcp/tcp_socket.h"
#include "tests/exchange/link_rig.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

// One end of a connection that does the hello by hand and then writes what a test likes.
class RawEnd {
 public:
  explicit RawEnd(UniqueFd socket) : socket_(std::move(socket)) {}

  void Write(std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      pollfd waiting{socket_.get(), POLLOUT, 0};
      if (poll(&waiting, 1, 60'000) <= 0) return;
      const ssize_t sent = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the other end has closed: what the tests want
      bytes = bytes.subspan(static_cast<size_t>(sent));
    }
  }
  template <size_t N>
  std::array<uint8_t, N> Read() {
    std::array<uint8_t, N> bytes{};
    for (size_t have = 0; have < N;) {
      pollfd waiting{socket_.get(), POLLIN, 0};
      if (poll(&waiting, 1, 60'000) <= 0) break;
      const ssize_t got = recv(socket_.get(), bytes.data() + have, N - have, 0);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    return bytes;
  }
  // Everything until the other end hangs up.
  size_t DrainToTheEnd() {
    size_t all = 0;
    for (char bytes[4096];;) {
      pollfd waiting{socket_.get(), POLLIN, 0};
      if (poll(&waiting, 1, 60'000) <= 0) return SIZE_MAX;
      const ssize_t got = recv(socket_.get(), bytes, sizeof(bytes), 0);
      if (got <= 0) return all;
      all += static_cast<size_t>(got);
    }
  }

  void UseKeys(const FrameKey& out, const FrameKey& back) {
    out_.emplace(*FrameMac::Create(out));
    back_.emplace(*FrameMac::Create(back));
  }
  // The next frame of this end, tagged as it should be; with `reflected`: as the other end would.
  std::vector<uint8_t> Frame(FrameHeader header, size_t payload_bytes, bool reflected = false) {
    header.link = link;
    header.payload_bytes = payload_bytes;
    const FrameHeaderBytes head = EncodeFrameHeader(header);
    std::vector<uint8_t> payload(payload_bytes);
    for (size_t i = 0; i < payload_bytes; ++i) payload[i] = PatternByte(header.sequence, i);
    FrameMac& mac = reflected ? *back_ : *out_;
    mac.Begin(head);
    mac.Add(payload);
    const FrameTag tag = mac.Finish();
    std::vector<uint8_t> bytes(head.begin(), head.end());
    bytes.insert(bytes.end(), tag.begin(), tag.end());
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return bytes;
  }

  LinkId link;

 private:
  UniqueFd socket_;
  std::optional<FrameMac> out_;
  std::optional<FrameMac> back_;
};

// A link of a rig, one end of it a RawEnd.
struct Forge {
  std::unique_ptr<LinkRig> rig;
  std::unique_ptr<RawEnd> raw;
  std::unique_ptr<FrameLink> link;  // the end that is ours
  Bell* bell = nullptr;
};

Forge RawRouter() {
  Forge forge;
  forge.rig = std::make_unique<LinkRig>(Mover::kTcp);
  const auto to = TcpAddress::Parse(forge.rig->addresses()[0]);
  auto socket = ConnectTcp(*to, nullptr, In(kPatience));
  EXPECT_TRUE(socket.ok()) << socket.status();
  forge.raw = std::make_unique<RawEnd>(*std::move(socket));
  const LinkRequest request = forge.rig->GoodRequest();
  RouterHandshake handshake(request, FrameIntegrity::kMac, FreshNonce());
  forge.raw->Write(handshake.hello());
  const auto proof = handshake.Prove(forge.raw->Read<kHelloAnswerBytes>());
  EXPECT_TRUE(proof.ok()) << proof.status();
  forge.raw->Write(*proof);
  const auto keys = handshake.Finish(forge.raw->Read<kHelloAnswerBytes>());
  EXPECT_TRUE(keys.ok()) << keys.status();
  forge.raw->UseKeys((*keys)->to_worker, (*keys)->to_router);
  forge.raw->link = request.link;
  forge.link = forge.rig->Accepted(request.link);
  forge.bell = &forge.rig->worker_bell();
  return forge;
}

Forge RawWorker() {
  Forge forge;
  forge.rig = std::make_unique<LinkRig>(Mover::kTcp);
  const auto listening = ListenTcp("127.0.0.1", 0, 0);
  EXPECT_TRUE(listening.ok()) << listening.status();
  const LinkRequest request = forge.rig->GoodRequest();
  absl::StatusOr<std::unique_ptr<FrameLink>> link;
  std::thread router([&] {
    link = forge.rig->connector().Connect({TcpAddress::OfSocket(listening->get())->ToString()},
                                          request, forge.rig->router_bell(), In(kPatience));
  });
  pollfd waiting{listening->get(), POLLIN, 0};
  EXPECT_EQ(poll(&waiting, 1, 60'000), 1);
  forge.raw = std::make_unique<RawEnd>(UniqueFd(accept4(listening->get(), nullptr, nullptr, 0)));
  WorkerHandshake handshake(forge.rig->options().self, FrameIntegrity::kMac, FreshNonce());
  EXPECT_EQ(*handshake.TakeHello(forge.raw->Read<kHelloBytes>()), HelloVerdict::kProve);
  forge.raw->Write(handshake.Answer(HelloVerdict::kProve));
  EXPECT_EQ(*handshake.TakeProof(forge.raw->Read<kHelloProofBytes>()), HelloVerdict::kWelcome);
  forge.raw->UseKeys(handshake.keys()->to_router, handshake.keys()->to_worker);
  forge.raw->Write(handshake.Answer(HelloVerdict::kWelcome));
  router.join();
  EXPECT_TRUE(link.ok()) << link.status();
  if (link.ok()) forge.link = *std::move(link);
  forge.raw->link = request.link;
  forge.bell = &forge.rig->router_bell();
  return forge;
}

class ForgedFramesTest : public testing::TestWithParam<bool> {
 protected:
  Forge NewForge() { return GetParam() ? RawRouter() : RawWorker(); }

  // One good frame arrives; then `write`: nothing of it does, and the link says why.
  std::string BrokenBy(const std::function<void(RawEnd&)>& write) {
    Forge forge = NewForge();
    if (forge.link == nullptr) return "no link";
    const std::vector<uint8_t> good = forge.raw->Frame(DispatchHeader(1, 0), 1000);
    forge.raw->Write(good);
    auto frame = WaitNext(*forge.link, *forge.bell, In(kPatience));
    EXPECT_TRUE(frame.ok() && frame->has_value()) << frame.status();
    EXPECT_TRUE(frame.ok() && frame->has_value() && IsPattern(**frame));
    forge.link->Release();
    last_good_ = good;
    write(*forge.raw);
    frame = WaitNext(*forge.link, *forge.bell, In(kPatience));
    EXPECT_FALSE(frame.ok());
    EXPECT_TRUE(absl::IsUnauthenticated(frame.status())) << frame.status();
    EXPECT_EQ(forge.link->Reserve(1).status(), frame.status());
    EXPECT_NE(forge.raw->DrainToTheEnd(), SIZE_MAX);
    EXPECT_THAT(std::string(frame.status().message()), HasSubstr("tcp 127.0.0.1:"));
    return std::string(frame.status().message());
  }

  std::vector<uint8_t> last_good_;
};

TEST_P(ForgedFramesTest, RightOnesArriveWhateverTheirSize) {
  Forge forge = NewForge();
  ASSERT_NE(forge.link, nullptr);
  uint64_t sequence = 0;
  for (const size_t bytes : {0, 1, 15, 16, 4096, 65'535, 65'536, 65'552, 1'000'003}) {
    forge.raw->Write(forge.raw->Frame(DispatchHeader(++sequence, 0), bytes));
    const auto frame = WaitNext(*forge.link, *forge.bell, In(kPatience));
    ASSERT_TRUE(frame.ok() && frame->has_value()) << bytes << ": " << frame.status();
    EXPECT_EQ((*frame)->header.sequence, sequence);
    EXPECT_EQ((*frame)->payload.size(), bytes);
    EXPECT_TRUE(IsPattern(**frame)) << bytes;
    forge.link->Release();
  }
}

TEST_P(ForgedFramesTest, AFlippedBitAnywhere) {
  // Of header, tag and payload; not of the payload's size, which makes the receiver wait for more.
  for (const size_t at : {0u, 6u, 8u, 17u, 32u, 44u, 55u, 64u, 79u, 80u, 580u, 1079u}) {
    SCOPED_TRACE(at);
    BrokenBy([at](RawEnd& raw) {
      std::vector<uint8_t> bytes = raw.Frame(DispatchHeader(2, 0), 1000);
      bytes[at] ^= 4;
      raw.Write(bytes);
    });
  }
}

TEST_P(ForgedFramesTest, ALargeOneWithAFlippedBit) {
  EXPECT_THAT(BrokenBy([](RawEnd& raw) {
                std::vector<uint8_t> bytes = raw.Frame(DispatchHeader(2, 0), 500'000);
                bytes[400'000] ^= 1;
                raw.Write(bytes);
              }),
              HasSubstr("dispatch 2 of step 0 layer 0: its tag is wrong"));
}

TEST_P(ForgedFramesTest, ARepeatedOne) {
  BrokenBy([this](RawEnd& raw) { raw.Write(last_good_); });
}

TEST_P(ForgedFramesTest, OnesInAnotherOrder) {
  BrokenBy([](RawEnd& raw) {
    const auto second = raw.Frame(DispatchHeader(2, 0), 100);
    raw.Write(raw.Frame(DispatchHeader(3, 0), 100));
    raw.Write(second);
  });
}

TEST_P(ForgedFramesTest, OneThatIsLeftOut) {
  BrokenBy([](RawEnd& raw) {
    raw.Frame(DispatchHeader(2, 0), 100);
    raw.Write(raw.Frame(DispatchHeader(3, 0), 100));
  });
}

TEST_P(ForgedFramesTest, OneThatIsCutShortAndFilledUp) {
  BrokenBy([](RawEnd& raw) {
    std::vector<uint8_t> bytes = raw.Frame(DispatchHeader(2, 0), 100);
    bytes.resize(bytes.size() - 50);
    const auto next = raw.Frame(DispatchHeader(3, 0), 100);
    bytes.insert(bytes.end(), next.begin(), next.end());
    raw.Write(bytes);
  });
}

TEST_P(ForgedFramesTest, TheOtherDirectionsSentBack) {
  BrokenBy([](RawEnd& raw) {
    raw.Frame(DispatchHeader(2, 0), 0, /*reflected=*/true);  // number 0 of that direction
    raw.Write(raw.Frame(DispatchHeader(2, 0), 100, /*reflected=*/true));
  });
}

TEST_P(ForgedFramesTest, AnotherLinks) {
  Forge other = NewForge();
  ASSERT_NE(other.link, nullptr);
  other.raw->Frame(DispatchHeader(1, 0), 1000);
  BrokenBy([&other](RawEnd& raw) {
    other.raw->link = raw.link;
    raw.Write(other.raw->Frame(DispatchHeader(2, 0), 100));
  });
}

TEST_P(ForgedFramesTest, OneWithoutATag) {
  BrokenBy([](RawEnd& raw) {
    std::vector<uint8_t> bytes = raw.Frame(DispatchHeader(2, 0), 100);
    bytes.erase(bytes.begin() + kFrameHeaderBytes, bytes.begin() + kFrameHeaderBytes + 16);
    bytes.resize(bytes.size() + 16);
    raw.Write(bytes);
  });
}

INSTANTIATE_TEST_SUITE_P(Ends, ForgedFramesTest, testing::Bool(), [](const auto& router) {
  return router.param ? "FromARouter" : "FromAWorker";
});

// --- Hellos over TCP, to a listener that tells what it refuses.

class RefusalsTest : public testing::Test {
 protected:
  RefusalsTest() {
    LinkListenerOptions options;
    options.on_refused = [this](const RefusedHello& refused) {
      absl::MutexLock lock(&mutex_);
      refused_.push_back(refused);
    };
    rig_ = std::make_unique<LinkRig>(Mover::kTcp, options);
  }
  ~RefusalsTest() override { rig_ = nullptr; }

  RawEnd NewConnection() {
    const auto to = TcpAddress::Parse(rig_->addresses()[0]);
    return RawEnd(*ConnectTcp(*to, nullptr, In(kPatience)));
  }
  RefusedHello NextRefusal() {
    const auto some = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !refused_.empty(); };
    absl::MutexLock lock(&mutex_);
    if (!mutex_.AwaitWithTimeout(absl::Condition(&some), absl::Seconds(60))) return {};
    RefusedHello first = refused_.front();
    refused_.erase(refused_.begin());
    EXPECT_THAT(first.peer, HasSubstr("127.0.0.1:"));
    return first;
  }

  absl::Mutex mutex_;
  std::vector<RefusedHello> refused_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<LinkRig> rig_;
};

TEST_F(RefusalsTest, ARecordedHelloIsCalledAReplay) {
  const LinkRequest request = rig_->GoodRequest();
  RouterHandshake handshake(request, FrameIntegrity::kMac, FreshNonce());
  RawEnd first = NewConnection();
  first.Write(handshake.hello());
  const HelloProofBytes proof = *handshake.Prove(first.Read<kHelloAnswerBytes>());
  first.Write(proof);
  ASSERT_TRUE(handshake.Finish(first.Read<kHelloAnswerBytes>()).ok());
  ASSERT_NE(rig_->Accepted(request.link), nullptr);

  RawEnd again = NewConnection();
  again.Write(handshake.hello());
  again.Write(proof);
  const auto answer = DecodeHelloAnswer(again.Read<kHelloAnswerBytes>());
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->verdict, HelloVerdict::kReplayed);
  const RefusedHello refused = NextRefusal();
  EXPECT_EQ(refused.cause, HelloRefusal::kReplay);
  EXPECT_THAT(refused.why, HasSubstr("replayed"));
}

// Both are at the door when the right one comes in.
TEST_F(RefusalsTest, AReplayBesideTheRightOneGetsNothing) {
  const LinkRequest request = rig_->GoodRequest();
  RouterHandshake handshake(request, FrameIntegrity::kMac, FreshNonce());
  RawEnd right = NewConnection(), wrong = NewConnection();
  right.Write(handshake.hello());
  wrong.Write(handshake.hello());
  const HelloProofBytes proof = *handshake.Prove(right.Read<kHelloAnswerBytes>());
  wrong.Read<kHelloAnswerBytes>();
  right.Write(proof);
  ASSERT_TRUE(handshake.Finish(right.Read<kHelloAnswerBytes>()).ok());
  wrong.Write(proof);
  EXPECT_EQ(DecodeHelloAnswer(wrong.Read<kHelloAnswerBytes>())->verdict, HelloVerdict::kReplayed);
  EXPECT_EQ(NextRefusal().cause, HelloRefusal::kReplay);
}

TEST_F(RefusalsTest, EachCauseByItsName) {
  LinkRequest wrong = rig_->GoodRequest();
  wrong.key.bytes[0] ^= 1;
  EXPECT_FALSE(rig_->Connect(wrong).ok());
  EXPECT_EQ(NextRefusal().cause, HelloRefusal::kKey);

  wrong = rig_->GoodRequest();
  wrong.model_digest ^= 1;
  EXPECT_FALSE(rig_->Connect(wrong).ok());
  EXPECT_EQ(NextRefusal().cause, HelloRefusal::kModel);

  wrong = rig_->GoodRequest();
  wrong.worker = InstanceId(12345);
  EXPECT_FALSE(rig_->Connect(wrong).ok());
  EXPECT_EQ(NextRefusal().cause, HelloRefusal::kInstance);

  RawEnd stranger = NewConnection();
  std::array<uint8_t, kHelloBytes> nonsense{};
  stranger.Write(nonsense);
  EXPECT_EQ(NextRefusal().cause, HelloRefusal::kMalformed);

  RawEnd old = NewConnection();
  HelloBytes hello =
      RouterHandshake(rig_->GoodRequest(), FrameIntegrity::kMac, FreshNonce()).hello();
  hello[4] = 2;
  old.Write(hello);
  EXPECT_EQ(NextRefusal().cause, HelloRefusal::kVersion);

  { RawEnd gone = NewConnection(); }
  EXPECT_EQ(NextRefusal().cause, HelloRefusal::kUnfinished);

  TcpOptions plain;
  plain.integrity = FrameIntegrity::kNone;
  const absl::Status differ = TcpLinkMaker(plain)
                                  .NewConnector()
                                  ->Connect(rig_->addresses(), rig_->GoodRequest(),
                                            rig_->router_bell(), In(kPatience))
                                  .status();
  EXPECT_TRUE(absl::IsFailedPrecondition(differ)) << differ;
  EXPECT_THAT(std::string(differ.message()), HasSubstr("this router has none, the worker has mac"));
  const RefusedHello refused = NextRefusal();
  EXPECT_EQ(refused.cause, HelloRefusal::kIntegrity);
  EXPECT_THAT(refused.why, HasSubstr("the router has none, this worker has mac"));
}

// A right hello and then nothing is bounded like no hello at all.
TEST(HalfOpenHellos, AreShownOutInTime) {
  LinkListenerOptions options;
  options.hello_timeout = std::chrono::milliseconds(60);
  LinkRig rig(Mover::kTcp, options);
  RawEnd half(*ConnectTcp(*TcpAddress::Parse(rig.addresses()[0]), nullptr, In(kPatience)));
  half.Write(RouterHandshake(rig.GoodRequest(), FrameIntegrity::kMac, FreshNonce()).hello());
  EXPECT_EQ(half.DrainToTheEnd(), kHelloAnswerBytes);
}

}  // namespace
}  // namespace sheaf
