#pragma once
// FirstBytes: what new connections begin with, before anybody reads them: a TLS handshake (and of
// which versions) or something else. Bytes stay where they are.
//
// Bounds     a connection that has not said enough after kPatience, or ends before, is closed; the
//            owner bounds how many there are.
// Threads    one of its own, on which `spoken` runs (it must not block). Add: any thread.
// Ownership  of sockets: taken by Add, handed over by `spoken`. Stop closes those that wait.

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "network/tls/client_hello.h"

namespace sheaf {

class FirstBytes {
 public:
  static constexpr std::chrono::seconds kPatience{10};
  // Never kUnfinished.
  using Spoken = std::function<void(int socket, ClientHello hello)>;

  explicit FirstBytes(Spoken spoken);
  ~FirstBytes() { Stop(); }
  FirstBytes(const FirstBytes&) = delete;

  void Add(int socket);
  void Stop();

 private:
  struct Silent {
    int socket;
    uint64_t number;
    std::chrono::steady_clock::time_point until;
  };

  void Run();
  void Ready(int socket, bool ended);
  // Closes those whose time is over; how long the next one has, in milliseconds, at most 1000.
  int CloseSilent();

  const Spoken spoken_;
  UniqueFd epoll_;
  UniqueFd ending_;  // readable when the thread shall end
  absl::Mutex mutex_;
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unordered_map<int, uint64_t> waiting_ ABSL_GUARDED_BY(mutex_);  // socket: its number
  std::deque<Silent> silent_ ABSL_GUARDED_BY(mutex_);                  // oldest first
  std::thread thread_;
};

}  // namespace sheaf
