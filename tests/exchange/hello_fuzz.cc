// Bytes from a stranger at a listener, and from one who pretends to be a worker.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "exchange/link/hello.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  const absl::StatusOr<Hello> hello = DecodeHello({data, size});
  if (hello.ok()) {
    const HelloBytes again = EncodeHello(*hello);
    if (size != again.size() || std::memcmp(again.data(), data, size) != 0) std::abort();
    const LinkIdentity stranger{1, InstanceId(2), LinkSecret{3}};
    if (CheckHello(*hello, stranger) == HelloVerdict::kWelcome && hello->secret != stranger.secret)
      std::abort();
  }
  const absl::StatusOr<HelloVerdict> verdict = DecodeHelloAnswer({data, size});
  if (verdict.ok() && EncodeHelloAnswer(*verdict) !=
                          [&] {
                            HelloAnswerBytes given{};
                            std::memcpy(given.data(), data, given.size());
                            return given;
                          }())
    std::abort();
  return 0;
}
