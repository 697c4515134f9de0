// Who gets a link: only who has its key, now, and with every word as it was said.

#include "exchange/link/link_handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "exchange/link/recent_nonces.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

LinkIdentity Worker() {
  LinkIdentity self{77, InstanceId(5), {}};
  self.secret.fill(9);
  return self;
}
LinkRequest Request(InstanceId router = InstanceId(6)) {
  const LinkIdentity worker = Worker();
  return {worker.model_digest, worker.instance, router, LinkId(100),
          LinkKeyFor(worker.secret, worker.instance, router)};
}
LinkNonce Nonce(uint8_t value) {
  LinkNonce nonce{};
  nonce.fill(value);
  return nonce;
}

struct Pair {
  explicit Pair(const LinkRequest& request = Request(),
                FrameIntegrity integrity = FrameIntegrity::kMac, uint8_t router_nonce = 1,
                uint8_t worker_nonce = 2)
      : router(request, integrity, Nonce(router_nonce)),
        worker(Worker(), FrameIntegrity::kMac, Nonce(worker_nonce)) {}
  RouterHandshake router;
  WorkerHandshake worker;
};

TEST(LinkHandshake, BothEndsGetTheSameKeysAndEachDirectionItsOwn) {
  Pair pair;
  ASSERT_EQ(*pair.worker.TakeHello(pair.router.hello()), HelloVerdict::kProve);
  const auto proof = pair.router.Prove(pair.worker.Answer(HelloVerdict::kProve));
  ASSERT_TRUE(proof.ok()) << proof.status();
  ASSERT_EQ(*pair.worker.TakeProof(*proof), HelloVerdict::kWelcome);
  const auto keys = pair.router.Finish(pair.worker.Answer(HelloVerdict::kWelcome));
  ASSERT_TRUE(keys.ok() && keys->has_value()) << keys.status();
  const auto theirs = pair.worker.keys();
  ASSERT_TRUE(theirs.has_value());
  EXPECT_EQ((*keys)->to_worker, theirs->to_worker);
  EXPECT_EQ((*keys)->to_router, theirs->to_router);
  EXPECT_FALSE(theirs->to_worker == theirs->to_router);

  // Another nonce of either side, other keys.
  for (const auto& [mine, its] : {std::pair{3, 2}, std::pair{1, 3}}) {
    Pair other(Request(), FrameIntegrity::kMac, static_cast<uint8_t>(mine),
               static_cast<uint8_t>(its));
    ASSERT_EQ(*other.worker.TakeHello(other.router.hello()), HelloVerdict::kProve);
    EXPECT_FALSE(other.worker.keys()->to_worker == theirs->to_worker);
  }
}

TEST(LinkHandshake, TheKeyIsNoneOfWhatIsSent) {
  Pair pair;
  const LinkKey key = Request().key;
  ASSERT_TRUE(pair.worker.TakeHello(pair.router.hello()).ok());
  const HelloAnswerBytes challenge = pair.worker.Answer(HelloVerdict::kProve);
  const HelloProofBytes proof = *pair.router.Prove(challenge);
  const HelloAnswerBytes welcome = pair.worker.Answer(HelloVerdict::kWelcome);
  std::string sent;
  const auto add = [&](std::span<const uint8_t> bytes) { sent.append(bytes.begin(), bytes.end()); };
  add(pair.router.hello());
  add(challenge);
  add(proof);
  add(welcome);
  for (size_t at = 0; at + 8 <= key.bytes.size(); ++at) {
    const std::string part(key.bytes.begin() + static_cast<ptrdiff_t>(at),
                           key.bytes.begin() + static_cast<ptrdiff_t>(at) + 8);
    EXPECT_EQ(sent.find(part), std::string::npos) << at;
  }
}

// What was recorded fits no other nonce of the worker.
TEST(LinkHandshake, AReplayIsRefused) {
  Pair recorded;
  ASSERT_EQ(*recorded.worker.TakeHello(recorded.router.hello()), HelloVerdict::kProve);
  const auto proof = recorded.router.Prove(recorded.worker.Answer(HelloVerdict::kProve));
  ASSERT_EQ(*recorded.worker.TakeProof(*proof), HelloVerdict::kWelcome);

  WorkerHandshake later(Worker(), FrameIntegrity::kMac, Nonce(3));
  ASSERT_EQ(*later.TakeHello(recorded.router.hello()), HelloVerdict::kProve);
  EXPECT_EQ(*later.TakeProof(*proof), HelloVerdict::kWrongKey);

  // And a worker's welcome no other nonce of the router.
  Pair fresh(Request(), FrameIntegrity::kMac, 4);
  ASSERT_TRUE(fresh.router.Prove(recorded.worker.Answer(HelloVerdict::kProve)).ok());
  const auto keys = fresh.router.Finish(recorded.worker.Answer(HelloVerdict::kWelcome));
  EXPECT_TRUE(absl::IsUnauthenticated(keys.status())) << keys.status();
  EXPECT_THAT(std::string(keys.status().message()), HasSubstr("does not know the key"));
}

TEST(LinkHandshake, ARoutersProofIsNoWorkersProof) {
  Pair pair;
  ASSERT_TRUE(pair.worker.TakeHello(pair.router.hello()).ok());
  const HelloProofBytes proof = *pair.router.Prove(pair.worker.Answer(HelloVerdict::kProve));
  HelloAnswer reflected{HelloVerdict::kWelcome, FrameIntegrity::kMac, *DecodeHelloProof(proof)};
  EXPECT_FALSE(pair.router.Finish(EncodeHelloAnswer(reflected)).ok());
}

// Every bit that a router says, changed on the way.
TEST(LinkHandshake, WhoChangesAWordGetsNoLink) {
  for (size_t bit = 0; bit < 8 * kHelloBytes; ++bit) {
    Pair pair;
    HelloBytes hello = pair.router.hello();
    hello[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto verdict = pair.worker.TakeHello(hello);
    if (!verdict.ok() || *verdict != HelloVerdict::kProve) continue;
    const auto proof = pair.router.Prove(pair.worker.Answer(HelloVerdict::kProve));
    ASSERT_TRUE(proof.ok());
    EXPECT_EQ(*pair.worker.TakeProof(*proof), HelloVerdict::kWrongKey) << bit;
  }
  for (size_t bit = 0; bit < 8 * kHelloAnswerBytes; ++bit) {
    Pair pair;
    ASSERT_TRUE(pair.worker.TakeHello(pair.router.hello()).ok());
    HelloAnswerBytes challenge = pair.worker.Answer(HelloVerdict::kProve);
    challenge[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto proof = pair.router.Prove(challenge);
    if (!proof.ok()) continue;
    EXPECT_EQ(*pair.worker.TakeProof(*proof), HelloVerdict::kWrongKey) << bit;
  }
}

TEST(LinkHandshake, ARouterSpeaksForNoOther) {
  LinkRequest request = Request(InstanceId(6));
  request.router = InstanceId(7);  // with the key of 6
  Pair pair(request);
  ASSERT_EQ(*pair.worker.TakeHello(pair.router.hello()), HelloVerdict::kProve);
  const auto proof = pair.router.Prove(pair.worker.Answer(HelloVerdict::kProve));
  EXPECT_EQ(*pair.worker.TakeProof(*proof), HelloVerdict::kWrongKey);
}

TEST(LinkHandshake, SidesThatDifferAreToldBoth) {
  Pair pair(Request(), FrameIntegrity::kNone);
  const auto verdict = pair.worker.TakeHello(pair.router.hello());
  ASSERT_EQ(*verdict, HelloVerdict::kOtherIntegrity);
  const auto proof = pair.router.Prove(pair.worker.Answer(*verdict));
  EXPECT_TRUE(absl::IsFailedPrecondition(proof.status()));
  EXPECT_EQ(proof.status().message(),
            "--exchange-integrity: this router has none, the worker has mac");
}

TEST(LinkHandshake, EightBitRowsGoToWhoTakesThem) {
  LinkRequest request = Request();
  request.rows_of_8_bits = true;
  LinkIdentity device = Worker();
  device.takes_8_bits = false;
  const RouterHandshake router(request, FrameIntegrity::kMac, Nonce(1));
  WorkerHandshake cpu(Worker(), FrameIntegrity::kMac, Nonce(2));
  EXPECT_EQ(*cpu.TakeHello(router.hello()), HelloVerdict::kProve);
  WorkerHandshake refuses(device, FrameIntegrity::kMac, Nonce(2));
  EXPECT_EQ(*refuses.TakeHello(router.hello()), HelloVerdict::kOtherActivations);
  RouterHandshake told(request, FrameIntegrity::kMac, Nonce(1));
  const auto proof = told.Prove(refuses.Answer(HelloVerdict::kOtherActivations));
  EXPECT_TRUE(absl::IsFailedPrecondition(proof.status()));
  EXPECT_EQ(proof.status().message(),
            "--activation-bits: this router has 8, the worker's device takes 16 alone");
  WorkerHandshake takes(device, FrameIntegrity::kMac, Nonce(2));
  EXPECT_EQ(*takes.TakeHello(Pair().router.hello()), HelloVerdict::kProve);
}

// A worker of another checkpoint that took over an address says that it is another one: the router
// learns the right address later.
TEST(LinkHandshake, WhoIsMeantIsAskedBeforeWhatItServes) {
  LinkRequest request = Request();
  request.worker = InstanceId(4);
  request.model_digest ^= 1;
  Pair pair(request);
  EXPECT_EQ(*pair.worker.TakeHello(pair.router.hello()), HelloVerdict::kOtherInstance);
}

TEST(LinkHandshake, WithoutIntegrityThereAreNoFrameKeys) {
  RouterHandshake router(Request(), FrameIntegrity::kNone, Nonce(1));
  WorkerHandshake worker(Worker(), FrameIntegrity::kNone, Nonce(2));
  ASSERT_EQ(*worker.TakeHello(router.hello()), HelloVerdict::kProve);
  const auto proof = router.Prove(worker.Answer(HelloVerdict::kProve));
  ASSERT_EQ(*worker.TakeProof(*proof), HelloVerdict::kWelcome);
  const auto keys = router.Finish(worker.Answer(HelloVerdict::kWelcome));
  ASSERT_TRUE(keys.ok());
  EXPECT_FALSE(keys->has_value());
  EXPECT_FALSE(worker.keys().has_value());
}

TEST(LinkHandshake, AnAnswerOutOfTurnIsNone) {
  Pair pair;
  ASSERT_TRUE(pair.worker.TakeHello(pair.router.hello()).ok());
  EXPECT_FALSE(pair.router.Prove(pair.worker.Answer(HelloVerdict::kWelcome)).ok());
  ASSERT_TRUE(pair.router.Prove(pair.worker.Answer(HelloVerdict::kProve)).ok());
  EXPECT_FALSE(pair.router.Finish(pair.worker.Answer(HelloVerdict::kProve)).ok());
}

TEST(LinkKeys, AreAPairsOwn) {
  LinkSecret secret{};
  secret.fill(1);
  LinkSecret other = secret;
  other[31] ^= 1;
  const LinkKey key = LinkKeyFor(secret, InstanceId(2), InstanceId(3));
  EXPECT_EQ(key, LinkKeyFor(secret, InstanceId(2), InstanceId(3)));
  EXPECT_FALSE(key == LinkKeyFor(secret, InstanceId(3), InstanceId(2)));
  EXPECT_FALSE(key == LinkKeyFor(other, InstanceId(2), InstanceId(3)));
  EXPECT_NE(FreshNonce(), FreshNonce());
}

TEST(RecentNonces, TheOldestGoFirst) {
  RecentNonces recent;
  const auto nonce = [](uint32_t number) {
    LinkNonce bytes{};
    for (size_t i = 0; i < 4; ++i) bytes[i] = static_cast<uint8_t>(number >> (8 * i));
    return bytes;
  };
  for (uint32_t i = 0; i < 5000; ++i) recent.Add(nonce(i));
  EXPECT_FALSE(recent.Has(nonce(0)));
  EXPECT_FALSE(recent.Has(nonce(5000 - 4097)));
  EXPECT_TRUE(recent.Has(nonce(5000 - 4096)));
  EXPECT_TRUE(recent.Has(nonce(4999)));
}

}  // namespace
}  // namespace sheaf
