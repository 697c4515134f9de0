#pragma once
// GrpcCallWatch: no client fills the memory with calls that it begins and leaves. gRPC reads a
// connection as long as there is something to read, and keeps the stream of a call that was reset,
// 20 KB, until then; a client that begins and resets calls (CVE-2023-44487) needs 200 bytes for
// each, and the limit of concurrent streams does not count those that were reset.
//
// How        gRPC's own counters (channelz, on by default) are looked at every kLook: connections
//            with more than kMostOfOne streams are dropped, and, with more than kMostOfAll
//            together, those that have most. Afterwards freed memory goes back to the system.
// Scope      all gRPC servers of the process; `drop` is asked for peers that it may not know.
// Threads    one of its own; `drop` is called on it.
// Cost       a look: tens of microseconds; as much for each connection if calls began at more than
//            a thousand a second.
// Source     grpc/grpc.h (grpc_channelz_*) and channelz.proto, for the JSON that they return.

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace sheaf {

struct PeerStreams {
  std::string peer;  // as gRPC names it: "ipv4:127.0.0.1:5"
  int64_t open = 0;  // begun and not yet given back, reset ones included
};

class GrpcCallWatch {
 public:
  static constexpr std::chrono::milliseconds kLook{50};
  static constexpr int64_t kMostOfOne = 4096;   // twice what a client is told it may have
  static constexpr int64_t kMostOfAll = 16384;  // 320 MB

  using Drop = std::function<void(const std::string& peer)>;
  explicit GrpcCallWatch(Drop drop);
  ~GrpcCallWatch();

  // Who has too many of them.
  static std::vector<std::string> TooMany(std::vector<PeerStreams> peers);

 private:
  void Run();
  // False: it was told to stop meanwhile.
  bool Waited(std::chrono::milliseconds time);

  const Drop drop_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace sheaf
