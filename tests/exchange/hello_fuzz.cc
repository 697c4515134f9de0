// Bytes from a stranger at a listener, and from one who pretends to be a worker.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "exchange/link/link_handshake.h"

namespace {

// What is decoded is written again as it was.
template <typename Bytes>
void MustBe(const Bytes& again, std::span<const uint8_t> given) {
  if (given.size() != again.size() || std::memcmp(again.data(), given.data(), again.size()) != 0)
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  const std::span<const uint8_t> given(data, size);
  if (const auto hello = DecodeHello(given); hello.ok()) MustBe(EncodeHello(*hello), given);
  if (const auto answer = DecodeHelloAnswer(given); answer.ok())
    MustBe(EncodeHelloAnswer(*answer), given);
  if (const auto proof = DecodeHelloProof(given); proof.ok())
    MustBe(EncodeHelloProof(*proof), given);

  // First a hello, then a proof, to a worker whose secret nobody was told.
  const LinkIdentity self{1, InstanceId(2), LinkSecret{3}};
  WorkerHandshake worker(self, FrameIntegrity::kMac, LinkNonce{4});
  const std::span<const uint8_t> first = given.first(std::min(size, kHelloBytes));
  const auto verdict = worker.TakeHello(first);
  if (verdict.ok() && *verdict == HelloVerdict::kProve) {
    const auto proved = worker.TakeProof(given.subspan(first.size()));
    if (proved.ok() && *proved == HelloVerdict::kWelcome) std::abort();
  }
  // To a router: two answers of one who does not know its key.
  RouterHandshake router({1, InstanceId(2), InstanceId(5), LinkId(6), LinkKey{}},
                         FrameIntegrity::kMac, LinkNonce{7});
  const std::span<const uint8_t> challenge = given.first(std::min(size, kHelloAnswerBytes));
  if (router.Prove(challenge).ok() && router.Finish(given.subspan(challenge.size())).ok())
    std::abort();
  return 0;
}
